//! What becomes of each request in each state.

use super::*;

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

/// Who asks: one that had epoch 5 as it began, one that knows of the epoch 6, and one that knows of neither.
const EPOCHS: [ProducerEpoch; 4] = [4, 5, 6, 7];
