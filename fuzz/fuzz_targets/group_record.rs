//! Any bytes as a record of `__consumer_offsets`: decoded or refused, and replayed into the coordinator's state.
//! What is decoded can be encoded, and what was encoded once stays as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::group::{GroupConfig, Groups, Record};

fuzz_target!(|records: Vec<(&[u8], Option<&[u8]>)>| {
    let mut groups = Groups::new(GroupConfig::default());
    for (key, value) in records {
        let Ok(record) = Record::decode(key, value) else { continue };
        let (key, value) = record.encode();
        let again = Record::decode(&key, value.as_deref()).expect("what was encoded can be decoded");
        assert_eq!(again.encode(), (key, value));
        groups.replay(&record);
    }
    let _ = groups.loaded(0);
});
