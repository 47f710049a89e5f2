//! What clients live through: lost answers, zombies, last epochs, and too much time.

use super::*;

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
