//! Any bytes as a record of `__transaction_state`: decoded or refused. What is decoded can be encoded, and is decoded
//! again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::transaction::Record;

fuzz_target!(|record: (&[u8], Option<&[u8]>)| {
    let (key, value) = record;
    let Ok(Some(record)) = Record::decode(key, value) else { return };
    let (key, value) = record.encode();
    assert_eq!(Record::decode(&key, value.as_deref()), Ok(Some(record)));
});
