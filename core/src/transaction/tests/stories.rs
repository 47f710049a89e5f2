//! Each decision and each refusal.

use super::*;

use Outcome::{Abort, Commit};
use TransactionError::{
    ConcurrentTransactions, InvalidProducerIdMapping, InvalidRequest, InvalidTransactionTimeout,
    InvalidTxnState, NotInTransaction, ProducerFenced, ProducerIdNeeded, TooManyIds,
};
use TransactionState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
use Version::{V1, V2};

/// How a transactional id got where it is; its producer had epoch 5 as it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// No transaction yet.
    New,
    /// One is open.
    Open,
    /// Its producer ended one, and markers are written or not.
    Ended(Outcome, Version, Markers),
    /// Somebody else came for the id as one was open.
    Fenced(Markers),
    /// It took too long.
    TimedOut(Markers),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Markers {
    Missing,
    Written,
}

use Markers::{Missing, Written};
use Past::{Ended, Fenced, New, Open, TimedOut};

fn at(past: Past) -> (World, Producer) {
    let (mut world, producer) = World::with_epoch(5);
    if past != New {
        world.add(producer, 0, V2).expect("it has the id");
    }
    let markers = match past {
        New | Open => Missing,
        Ended(outcome, version, markers) => {
            world.end(producer, outcome, version).expect("it is open");
            markers
        }
        Fenced(markers) => {
            assert_eq!(world.init(None), Err(ConcurrentTransactions));
            markers
        }
        TimedOut(markers) => {
            world.pass(i64::from(TIMEOUT_MS));
            markers
        }
    };
    if markers == Written {
        world.finish();
    }
    (world, producer)
}

fn epoch(answer: Result<Producer, TransactionError>) -> Result<ProducerEpoch, TransactionError> {
    answer.map(|producer| {
        assert_eq!(producer.id, FIRST_ID + 1);
        producer.epoch
    })
}

#[test]
fn where_an_id_is_and_who_has_it() {
    for (past, state, epoch) in [
        (New, Empty, 5),
        (Open, Ongoing, 5),
        (Ended(Commit, V1, Missing), PrepareCommit, 5),
        (Ended(Abort, V1, Missing), PrepareAbort, 5),
        (Ended(Commit, V1, Written), CompleteCommit, 5),
        (Ended(Abort, V1, Written), CompleteAbort, 5),
        (Ended(Commit, V2, Missing), PrepareCommit, 6),
        (Ended(Abort, V2, Missing), PrepareAbort, 6),
        (Ended(Commit, V2, Written), CompleteCommit, 6),
        (Ended(Abort, V2, Written), CompleteAbort, 6),
        (Fenced(Missing), PrepareAbort, 6),
        (Fenced(Written), CompleteAbort, 6),
        (TimedOut(Missing), PrepareAbort, 6),
        (TimedOut(Written), CompleteAbort, 6),
    ] {
        let (world, producer) = at(past);
        let known = world.get();
        assert_eq!((known.state, known.producer.epoch), (state, epoch), "{past:?}");
        assert_eq!(known.producer.id, producer.id);
        let touched = known.partitions.values().map(BTreeSet::len).sum::<usize>();
        let is_open = matches!(state, Ongoing | PrepareCommit | PrepareAbort);
        assert_eq!(touched, usize::from(is_open), "{past:?}");
        let prepared: Vec<_> = world
            .transactions
            .prepared()
            .map(|(_, t)| t.producer.epoch)
            .collect();
        let expected = matches!(state, PrepareCommit | PrepareAbort).then_some(epoch);
        assert_eq!(prepared, Vec::from_iter(expected), "{past:?}");
        let deadline = (state == Ongoing).then_some(NOON + i64::from(TIMEOUT_MS));
        assert_eq!(world.transactions.next_deadline(), deadline, "{past:?}");
    }
}

/// Who asks: one that had epoch 5 as it began, one that knows of the epoch 6, and one that knows of neither.
const EPOCHS: [ProducerEpoch; 4] = [4, 5, 6, 7];

#[test]
fn ending_a_transaction_with_version_1() {
    let fenced = Err(ProducerFenced);
    for (past, [commit, abort]) in [
        (New, [Err(InvalidTxnState), Err(InvalidTxnState)]),
        (Open, [Ok(5), Ok(5)]),
        (
            Ended(Commit, V1, Missing),
            [Err(ConcurrentTransactions), Err(InvalidTxnState)],
        ),
        (
            Ended(Abort, V1, Missing),
            [Err(InvalidTxnState), Err(ConcurrentTransactions)],
        ),
        (Ended(Commit, V1, Written), [Ok(5), Err(InvalidTxnState)]),
        (Ended(Abort, V1, Written), [Err(InvalidTxnState), Ok(5)]),
        (Ended(Commit, V2, Written), [fenced, fenced]),
        (Fenced(Missing), [fenced, fenced]),
        (Fenced(Written), [fenced, fenced]),
        (TimedOut(Missing), [fenced, fenced]),
        (TimedOut(Written), [fenced, fenced]),
    ] {
        for (outcome, expected) in [(Commit, commit), (Abort, abort)] {
            let (mut world, producer) = at(past);
            let records = world.log.len();
            let answer = world.end(producer, outcome, V1);
            assert_eq!(epoch(answer), expected, "{past:?} {outcome:?}");
            assert_eq!(world.log.len() - records, usize::from(past == Open), "{past:?}");
            for other in [4, 7] {
                let answer = world.end(
                    Producer {
                        epoch: other,
                        ..producer
                    },
                    outcome,
                    V1,
                );
                assert_eq!(answer, fenced.map(|_: i16| producer), "{past:?}: {other}");
            }
        }
    }
}

/// Kafka has this table in its source, for what is over; it has one more retry where somebody is fenced.
#[test]
fn ending_a_transaction_with_version_2() {
    let fenced = Err(ProducerFenced);
    let wait = Err(ConcurrentTransactions);
    let wrong = Err(InvalidTxnState);
    // By the epoch that asks: for commit, and for abort.
    for (past, commit, abort) in [
        (
            New,
            [fenced, wrong, fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        (
            Open,
            [fenced, Ok(6), fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        (
            Ended(Commit, V2, Missing),
            [fenced, wait, wait, fenced],
            [fenced, wrong, wait, fenced],
        ),
        (
            Ended(Abort, V2, Missing),
            [fenced, wrong, wait, fenced],
            [fenced, wait, wait, fenced],
        ),
        (
            Ended(Commit, V2, Written),
            [fenced, Ok(6), wrong, fenced],
            [fenced, wrong, Ok(7), fenced],
        ),
        (
            Ended(Abort, V2, Written),
            [fenced, wrong, wrong, fenced],
            [fenced, Ok(6), Ok(7), fenced],
        ),
        // A transaction that was ended with version 1 has not been ended by the epoch before.
        (
            Ended(Commit, V1, Written),
            [fenced, wrong, fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        // Nobody has been told of epoch 6, nor will be.
        (
            Fenced(Missing),
            [fenced, fenced, wait, fenced],
            [fenced, fenced, wait, fenced],
        ),
        (
            Fenced(Written),
            [fenced, fenced, wrong, fenced],
            [fenced, fenced, Ok(7), fenced],
        ),
        (
            TimedOut(Missing),
            [fenced, wrong, wait, fenced],
            [fenced, wait, wait, fenced],
        ),
        (
            TimedOut(Written),
            [fenced, wrong, wrong, fenced],
            [fenced, Ok(6), Ok(7), fenced],
        ),
    ] {
        for (outcome, row) in [(Commit, commit), (Abort, abort)] {
            for (asks, expected) in EPOCHS.into_iter().zip(row) {
                let (mut world, producer) = at(past);
                let answer = world.end(
                    Producer {
                        epoch: asks,
                        ..producer
                    },
                    outcome,
                    V2,
                );
                assert_eq!(epoch(answer), expected, "{past:?} {outcome:?} by {asks}");
            }
        }
    }
}

#[test]
fn adding_to_a_transaction() {
    let fenced = Err(ProducerFenced);
    let wait = Err(ConcurrentTransactions);
    for (past, row) in [
        (New, [fenced, Ok(()), fenced, fenced]),
        (Open, [fenced, Ok(()), fenced, fenced]),
        (Ended(Commit, V1, Missing), [fenced, wait, fenced, fenced]),
        (Ended(Commit, V1, Written), [fenced, Ok(()), fenced, fenced]),
        (Ended(Abort, V1, Written), [fenced, Ok(()), fenced, fenced]),
        (Ended(Commit, V2, Missing), [fenced, fenced, wait, fenced]),
        (Ended(Abort, V2, Missing), [fenced, fenced, wait, fenced]),
        (Ended(Commit, V2, Written), [fenced, fenced, Ok(()), fenced]),
        (Ended(Abort, V2, Written), [fenced, fenced, Ok(()), fenced]),
        (TimedOut(Missing), [fenced, fenced, wait, fenced]),
        (TimedOut(Written), [fenced, fenced, Ok(()), fenced]),
    ] {
        for (asks, expected) in EPOCHS.into_iter().zip(row) {
            let (mut world, producer) = at(past);
            let producer = Producer {
                epoch: asks,
                ..producer
            };
            assert_eq!(world.add(producer, 1, V2), expected, "{past:?} by {asks}");
            assert_eq!(
                world.verify(producer, 1),
                expected,
                "what was added is verified: {past:?} by {asks}"
            );
            if expected.is_ok() {
                let was_open = past == Open;
                assert_eq!(world.verify(producer, 0).is_ok(), was_open, "{past:?}");
                assert_eq!(world.get().state, Ongoing);
            }
        }
    }
}

#[test]
fn what_was_not_added_is_not_in_the_transaction() {
    let (world, producer) = at(Open);
    assert_eq!(world.verify(producer, 0), Ok(()));
    assert_eq!(world.verify(producer, 1), Err(NotInTransaction));
    assert_eq!(
        world.transactions.verify(ID, producer, "other", 0),
        Err(NotInTransaction)
    );
    let (world, producer) = at(Ended(Commit, V1, Written));
    assert_eq!(world.verify(producer, 0), Err(NotInTransaction), "it is over");
    let (world, producer) = at(New);
    assert_eq!(world.verify(producer, 0), Err(NotInTransaction));
}

#[test]
fn a_producer_begins_in_every_state() {
    let wait = Err(ConcurrentTransactions);
    for (past, first, at_last) in [
        (New, Ok(6), 6),
        (Open, wait, 7),
        (Ended(Commit, V1, Missing), wait, 6),
        (Ended(Abort, V1, Written), Ok(6), 6),
        (Ended(Commit, V2, Missing), wait, 7),
        (Ended(Abort, V2, Written), Ok(7), 7),
        (Fenced(Missing), wait, 7),
        (Fenced(Written), Ok(7), 7),
        (TimedOut(Missing), wait, 7),
        (TimedOut(Written), Ok(7), 7),
    ] {
        let (mut world, old) = at(past);
        let answer = world.init(None);
        assert_eq!(epoch(answer), first, "{past:?}");
        let new = match answer {
            Ok(new) => new,
            Err(_) => world.init_until_done(None).expect("nobody else wants it"),
        };
        assert_eq!(new.epoch, at_last, "{past:?}");
        assert_eq!(world.get().state, Empty);
        // Whatever the old one knows or guesses, but for what is the new one's.
        for asks in 4..at_last {
            let old = Producer { epoch: asks, ..old };
            assert_eq!(world.add(old, 0, V2), Err(ProducerFenced), "{past:?}: {asks}");
            assert_eq!(world.init(Some(old)), Err(ProducerFenced), "{past:?}: {asks}");
            for (outcome, version) in [(Commit, V1), (Commit, V2), (Abort, V1), (Abort, V2)] {
                assert_eq!(
                    world.end(old, outcome, version),
                    Err(ProducerFenced),
                    "{past:?}: {asks}"
                );
            }
        }
        world.add(new, 0, V1).expect("it has the id");
        assert_eq!(world.end(new, Commit, V1), Ok(new));
    }
}

#[test]
fn a_producer_goes_on_in_every_state() {
    let fenced = Err(ProducerFenced);
    let late = Err(ProducerFenced);
    let wait = Err(ConcurrentTransactions);
    // By the epoch that asks: at once, and with all markers written.
    for (past, first, at_last) in [
        (
            New,
            [fenced, Ok(6), fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        (
            Open,
            [fenced, wait, fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        (
            Ended(Commit, V1, Missing),
            [fenced, wait, fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        (
            Ended(Abort, V1, Written),
            [fenced, Ok(6), fenced, fenced],
            [fenced, Ok(6), fenced, fenced],
        ),
        (
            Ended(Commit, V2, Missing),
            [fenced, wait, wait, fenced],
            [fenced, Ok(6), Ok(7), fenced],
        ),
        (
            Ended(Abort, V2, Written),
            [fenced, Ok(6), Ok(7), fenced],
            [fenced, Ok(6), Ok(7), fenced],
        ),
        (
            Fenced(Missing),
            [fenced, fenced, wait, fenced],
            [fenced, fenced, Ok(7), fenced],
        ),
        (
            Fenced(Written),
            [fenced, fenced, Ok(7), fenced],
            [fenced, fenced, Ok(7), fenced],
        ),
        (
            TimedOut(Missing),
            [fenced, wait, wait, fenced],
            [fenced, Ok(6), Ok(7), fenced],
        ),
        (
            TimedOut(Written),
            [fenced, Ok(6), Ok(7), fenced],
            [fenced, Ok(6), Ok(7), fenced],
        ),
    ] {
        for (n, asks) in EPOCHS.into_iter().enumerate() {
            let (mut world, producer) = at(past);
            let expected = Producer {
                epoch: asks,
                ..producer
            };
            let answer = world.init(Some(expected));
            assert_eq!(epoch(answer), first[n], "{past:?} by {asks}");
            let answer = world.init_until_done(Some(expected));
            assert_eq!(epoch(answer), at_last[n], "{past:?} by {asks}, at last");
            let Ok(after) = answer else { continue };
            // The answer is lost, and the coordinator moves.
            world.transactions = world.restarted();
            assert_eq!(world.init(Some(expected)), Ok(after), "{past:?} by {asks}, again");
            world.add(after, 0, V1).expect("it has the id");
            assert_eq!(
                world.init(Some(expected)),
                late,
                "{past:?} by {asks}: it comes late"
            );
        }
    }
}

#[test]
fn somebody_who_lost_the_id_does_not_abort_the_transaction_of_who_has_it() {
    let (mut world, producer) = at(Open);
    let zombie = Producer { epoch: 4, ..producer };
    let records = world.log.len();
    assert_eq!(world.init(Some(zombie)), Err(ProducerFenced));
    assert_eq!(world.log.len(), records);
    assert_eq!(epoch(world.end(producer, Commit, V2)), Ok(6));
}

#[test]
fn a_zombie_that_speaks_version_2_learns_nothing_from_a_commit_with_version_1() {
    for exhausted in [false, true] {
        let (mut world, zombie) = World::with_epoch(if exhausted { ProducerEpoch::MAX - 1 } else { 5 });
        let new = world.init(None).expect("nothing is open");
        assert_eq!(new.id != zombie.id, exhausted);
        world.add(new, 0, V1).expect("it has the id");
        world.end_and_finish(new, Commit, V1).expect("it is open");
        let refusal = if exhausted {
            InvalidProducerIdMapping
        } else {
            ProducerFenced
        };
        assert_eq!(world.end(zombie, Commit, V2), Err(refusal));
        assert_eq!(world.end(zombie, Abort, V2), Err(refusal));
        assert_eq!(world.init(Some(zombie)), Err(ProducerFenced));
    }
}

#[test]
fn a_zombie_that_was_fenced_does_not_hear_of_the_epoch_that_fenced_it() {
    let (mut world, zombie) = at(Fenced(Written));
    assert_eq!(world.end(zombie, Abort, V2), Err(ProducerFenced));
    let new = world.init(None).expect("nothing is open");
    assert_eq!(new.epoch, 7);
    assert_eq!(world.end(zombie, Abort, V2), Err(ProducerFenced));
}

#[test]
fn an_answer_that_was_lost_comes_again_from_the_next_coordinator() {
    for outcome in [Commit, Abort] {
        let (mut world, producer) = at(Open);
        let after = world.end(producer, outcome, V2).expect("it is open");
        world.transactions = world.restarted();
        assert_eq!(world.end(producer, outcome, V2), Err(ConcurrentTransactions));
        world.finish();
        world.transactions = world.restarted();
        let records = world.log.len();
        assert_eq!(world.end(producer, outcome, V2), Ok(after));
        assert_eq!(world.log.len(), records, "nothing is decided twice");
        world.add(after, 0, V2).expect("it has the id");
        assert_eq!(
            world.end(producer, outcome, V2),
            Err(ProducerFenced),
            "it comes late"
        );
        assert_eq!(world.get().state, Ongoing, "and ends nothing");
    }
}

#[test]
fn a_transaction_that_nobody_has_added_to_is_aborted_all_the_same() {
    let (mut world, producer) = at(New);
    let after = world.end(producer, Abort, V2).expect("it has the id");
    let known = world.get();
    assert_eq!((known.state, known.started_ms), (PrepareAbort, NOON));
    assert!(known.partitions.is_empty());
    world.finish();
    assert_eq!(world.end(producer, Abort, V2), Ok(after), "the answer was lost");
    world.add(after, 0, V2).expect("it has the id");
    assert_eq!(world.end(after, Commit, V2).map(|p| p.epoch), Ok(after.epoch + 1));
}

#[test]
fn with_version_2_the_last_epoch_is_followed_by_another_id() {
    let last = ProducerEpoch::MAX - 1;
    for outcome in [Commit, Abort] {
        let (mut world, producer) = World::with_epoch(last);
        world.add(producer, 0, V2).expect("it has the id");
        let after = world.end(producer, outcome, V2).expect("it is open");
        assert_eq!((after.id, after.epoch), (FIRST_ID + 2, 0));
        let known = world.get();
        let marked = Producer {
            epoch: ProducerEpoch::MAX,
            ..producer
        };
        assert_eq!(known.producer, marked, "markers fence what comes late");
        assert_eq!(known.seen_by_client(), after);
        assert_eq!(world.end(producer, outcome, V2), Err(ConcurrentTransactions));
        assert_eq!(
            world.add(after, 0, V2),
            Err(ConcurrentTransactions),
            "markers first"
        );
        assert_eq!(world.end(after, Abort, V2), Err(ConcurrentTransactions));
        assert_eq!(world.init(Some(after)), Err(ConcurrentTransactions));
        for nobody in [producer, marked] {
            assert_eq!(world.add(nobody, 0, V2), Err(ProducerFenced));
        }
        world.finish();
        world.transactions = world.restarted();
        assert_eq!(world.end(producer, outcome, V2), Ok(after), "the answer was lost");
        assert_eq!(world.end(marked, outcome, V2), Err(InvalidProducerIdMapping));
        assert_eq!(world.add(producer, 0, V2), Err(InvalidProducerIdMapping));
        assert_eq!(world.clone().init(Some(producer)), Ok(after));
        world.add(after, 0, V2).expect("it has the id");
        assert_eq!(world.end(producer, outcome, V2), Err(InvalidProducerIdMapping));
    }
}

#[test]
fn with_version_1_the_last_epoch_is_followed_by_another_id() {
    for expected in [false, true] {
        let (mut world, producer) = World::with_epoch(ProducerEpoch::MAX - 1);
        world.add(producer, 0, V1).expect("it has the id");
        assert_eq!(world.end_and_finish(producer, Commit, V1), Ok(producer));
        let expected = expected.then_some(producer);
        let after = world.init(expected).expect("nothing is open");
        assert_eq!((after.id, after.epoch), (FIRST_ID + 2, 0));
        world.transactions = world.restarted();
        match expected {
            Some(_) => assert_eq!(world.init(expected), Ok(after), "the answer was lost"),
            None => assert_eq!(world.init(Some(producer)), Err(ProducerFenced)),
        }
        assert_eq!(world.add(producer, 0, V1), Err(InvalidProducerIdMapping));
    }
}

#[test]
fn the_last_epoch_is_fenced_and_nobody_gets_the_one_behind_it() {
    let last = ProducerEpoch::MAX - 1;
    for by_time in [false, true] {
        let (mut world, producer) = World::with_epoch(last);
        world.add(producer, 0, V2).expect("it has the id");
        match by_time {
            true => world.pass(i64::from(TIMEOUT_MS)),
            false => assert_eq!(world.init(None), Err(ConcurrentTransactions)),
        }
        let marked = Producer {
            epoch: ProducerEpoch::MAX,
            ..producer
        };
        assert_eq!(world.get().producer, marked);
        for finished in [false, true] {
            if finished {
                world.finish();
            }
            for nobody in [producer, marked] {
                assert_eq!(world.add(nobody, 0, V2), Err(ProducerFenced));
                assert_eq!(world.end(nobody, Abort, V2), Err(ProducerFenced));
                assert_eq!(world.init(Some(nobody)), Err(ProducerFenced));
            }
        }
        let after = world.init(None).expect("nothing is open");
        assert_eq!((after.id, after.epoch), (FIRST_ID + 2, 0));
    }
}

#[test]
fn a_producer_of_the_last_epoch_that_goes_on_amid_a_transaction_gets_another_id() {
    let (mut world, producer) = World::with_epoch(ProducerEpoch::MAX - 1);
    world.add(producer, 0, V1).expect("it has the id");
    let after = world
        .init_until_done(Some(producer))
        .expect("nobody else wants it");
    assert_eq!((after.id, after.epoch), (FIRST_ID + 2, 0));
    assert_eq!(world.init(Some(producer)), Ok(after));
}

#[test]
fn a_fresh_producer_id_is_asked_for_only_where_it_is_needed() {
    let request = |fresh| InitRequest {
        timeout_ms: TIMEOUT_MS,
        expected: None,
        fresh,
    };
    let world = World::new();
    let (answer, step) = world.transactions.init(NOON, ID, request(None));
    assert_eq!((answer, step), (Err(ProducerIdNeeded), Step::default()));
    let (world, producer) = at(Open);
    let end = |fresh| EndRequest {
        producer,
        is_commit: true,
        version: V2,
        fresh,
    };
    let (after, _) = world
        .transactions
        .end(NOON, ID, end(Some(7)))
        .expect("it is open");
    assert_eq!(
        (after.id, after.epoch),
        (producer.id, 6),
        "one that is not needed is not used"
    );
    let (world, _) = at(New);
    let (answer, _) = world.transactions.init(NOON, ID, request(Some(7)));
    assert_eq!(epoch(answer), Ok(6));
}

#[test]
fn time_begins_with_the_first_partition_and_ends_with_the_outcome() {
    let (mut world, producer) = at(New);
    let timeout_ms = i64::from(TIMEOUT_MS);
    world.pass(10 * timeout_ms);
    assert_eq!(world.get().state, Empty, "no transaction, no time-out");
    world.add(producer, 0, V1).expect("it has the id");
    world.pass(timeout_ms - 1);
    world.add(producer, 1, V1).expect("there is a millisecond left");
    assert_eq!(world.get().state, Ongoing);
    world.pass(1);
    assert_eq!(
        world.get().state,
        PrepareAbort,
        "more partitions do not make it longer"
    );
    world.pass(timeout_ms);
    assert_eq!(world.get().producer.epoch, 6, "once is enough");
    let (mut world, _) = at(Ended(Commit, V1, Missing));
    world.pass(10 * timeout_ms);
    assert_eq!(world.get().state, PrepareCommit, "what is decided stays so");
}

#[test]
fn whoever_took_too_long_goes_on_unless_somebody_else_has_come() {
    let (mut world, slow) = at(TimedOut(Written));
    assert_eq!(world.add(slow, 0, V2), Err(ProducerFenced));
    assert_eq!(
        world.end(slow, Commit, V2),
        Err(InvalidTxnState),
        "it is not committed"
    );
    let after = world.end(slow, Abort, V2).expect("it was aborted");
    world.add(after, 0, V2).expect("it has the id");
    let (mut world, slow) = at(TimedOut(Written));
    let new = world.init(None).expect("nothing is open");
    assert_eq!(world.end(slow, Abort, V2), Err(ProducerFenced));
    assert_eq!(world.init(Some(slow)), Err(ProducerFenced));
    world.add(new, 0, V2).expect("it has the id");
}

#[test]
fn what_is_added_again_is_not_written_again() {
    let (mut world, producer) = at(Open);
    let records = world.log.len();
    world.add(producer, 0, V2).expect("it is there");
    let nothing = [(Arc::from("other"), Vec::new())].into();
    for partitions in [BTreeMap::new(), nothing] {
        let step = world.transactions.add(NOON, ID, producer, &partitions, V2);
        assert_eq!(step, Ok(Step::default()));
    }
    assert_eq!(world.log.len(), records);
    let (world, producer) = at(New);
    let step = world.transactions.add(NOON, ID, producer, &BTreeMap::new(), V1);
    assert_eq!(step, Ok(Step::default()), "nothing does not begin a transaction");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (mut world, producer) = at(New);
    let init = |world: &World, id: &str, timeout_ms, expected| {
        let request = InitRequest {
            timeout_ms,
            expected,
            fresh: Some(7),
        };
        let (answer, step) = world.transactions.init(NOON, id, request);
        assert!(answer.is_ok() || step == Step::default());
        answer
    };
    let longest = "x".repeat(32_767);
    assert_eq!(init(&world, "", TIMEOUT_MS, None), Err(InvalidRequest));
    assert!(init(&world, &longest, TIMEOUT_MS, None).is_ok());
    assert_eq!(
        init(&world, &"x".repeat(32_768), TIMEOUT_MS, None),
        Err(InvalidRequest)
    );
    for none in [
        Producer::NONE,
        Producer { id: -1, ..producer },
        Producer {
            epoch: -1,
            ..producer
        },
    ] {
        assert_eq!(init(&world, ID, TIMEOUT_MS, Some(none)), Err(InvalidRequest));
        assert!(world.add(none, 0, V1).is_err());
        assert!(world.end(none, Abort, V2).is_err());
    }
    for (timeout_ms, is_fine) in [
        (0, false),
        (-1, false),
        (1, true),
        (900_000, true),
        (900_001, false),
    ] {
        let refused = init(&world, ID, timeout_ms, None) == Err(InvalidTransactionTimeout);
        assert_eq!(refused, !is_fine, "{timeout_ms}");
    }
    let partitions = [(Arc::from("x".repeat(32_768)), vec![0])].into();
    let added = world.transactions.add(NOON, ID, producer, &partitions, V1);
    assert_eq!(added, Err(InvalidRequest));
    let partitions = BTreeMap::new();
    assert_eq!(
        world.transactions.add(NOON, "", producer, &partitions, V1),
        Err(InvalidRequest)
    );
    assert_eq!(
        world.transactions.verify("", producer, TOPIC, 0),
        Err(InvalidRequest)
    );
    let end = EndRequest {
        producer,
        is_commit: true,
        version: V1,
        fresh: None,
    };
    assert_eq!(world.transactions.end(NOON, "", end), Err(InvalidRequest));
}

#[test]
fn an_id_that_is_not_known_has_no_producer() {
    let mut world = World::new();
    let producer = Producer { id: 1, epoch: 0 };
    assert_eq!(world.add(producer, 0, V1), Err(InvalidProducerIdMapping));
    assert_eq!(world.verify(producer, 0), Err(InvalidProducerIdMapping));
    assert_eq!(world.end(producer, Commit, V2), Err(InvalidProducerIdMapping));
    assert_eq!(world.init(Some(producer)), Err(InvalidProducerIdMapping));
    let (mut world, producer) = at(Open);
    let other = Producer {
        id: producer.id + 7,
        ..producer
    };
    assert_eq!(world.add(other, 0, V1), Err(InvalidProducerIdMapping));
    assert_eq!(world.end(other, Commit, V1), Err(InvalidProducerIdMapping));
    assert_eq!(world.init(Some(other)), Err(ProducerFenced));
}

#[test]
fn there_are_as_many_ids_as_may_be() {
    let config = TransactionConfig {
        ids_max: 1,
        ..TransactionConfig::default()
    };
    let (mut world, _) = at(New);
    let mut transactions = Transactions::new(config);
    world.log.iter().for_each(|record| transactions.replay(record));
    world.transactions = transactions;
    let request = InitRequest {
        timeout_ms: TIMEOUT_MS,
        expected: None,
        fresh: Some(7),
    };
    let (answer, step) = world.transactions.init(NOON, "one more", request);
    assert_eq!((answer, step), (Err(TooManyIds), Step::default()));
    assert_eq!(epoch(world.init(None)), Ok(6), "those that are known go on");
}

#[test]
fn ids_that_nobody_uses_are_forgotten_when_nothing_is_under_way() {
    let week = TransactionConfig::default().expiration_ms;
    for past in [
        New,
        Open,
        Ended(Commit, V1, Missing),
        Ended(Abort, V2, Missing),
        Ended(Commit, V2, Written),
        Ended(Abort, V1, Written),
    ] {
        let (mut world, producer) = at(past);
        assert_eq!(world.transactions.expire(NOON + week - 1), Step::default());
        let step = world.transactions.expire(NOON + week);
        let is_over = !matches!(past, Open | Ended(_, _, Missing));
        assert_eq!(step.records.len(), usize::from(is_over), "{past:?}");
        world.run(step);
        if is_over {
            assert!(world.transactions.get(ID).is_none());
            assert_eq!(world.transactions.live_record_count(), 0);
            assert_eq!(world.add(producer, 0, V1), Err(InvalidProducerIdMapping));
            let after = world.init(None).expect("the id is new");
            assert_eq!((after.id, after.epoch), (FIRST_ID + 2, 0), "an id of its own");
        }
    }
}

#[test]
fn what_is_finished_is_finished_once_and_by_its_producer() {
    let (mut world, producer) = at(Ended(Commit, V2, Missing));
    let finished = |world: &World, producer| world.transactions.finished(NOON, ID, producer);
    assert_eq!(
        finished(&world, producer),
        Step::default(),
        "it has another epoch"
    );
    let marked = world.get().producer;
    world.run(finished(&world, marked));
    assert_eq!(world.get().state, CompleteCommit);
    assert_eq!(finished(&world, marked), Step::default());
    world.add(marked, 0, V2).expect("it has the id");
    assert_eq!(finished(&world, marked), Step::default());
    assert_eq!(
        world.transactions.finished(NOON, "other", marked),
        Step::default()
    );
}

#[test]
fn many_that_time_out_at_once_do_so_step_by_step() {
    let (mut world, _) = at(Open);
    let open = world.log.last().expect("it was written").clone();
    for n in 0..TIMED_OUT_AT_ONCE {
        let transactional_id = Arc::from(format!("id{n}"));
        world.run(Step::of(Record {
            transactional_id,
            ..open.clone()
        }));
    }
    let late = NOON + i64::from(TIMEOUT_MS);
    let step = world.transactions.tick(late);
    assert_eq!(step.records.len(), TIMED_OUT_AT_ONCE);
    world.run(step);
    assert_eq!(world.transactions.next_deadline(), Some(late));
    let step = world.transactions.tick(late);
    assert_eq!(step.records.len(), 1);
    world.run(step);
    assert_eq!(world.transactions.next_deadline(), None);
    assert_eq!(world.transactions.prepared().count(), TIMED_OUT_AT_ONCE + 1);
}
