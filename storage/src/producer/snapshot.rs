//! The `.snapshot` file of producers. It is in Kafka's format; behind that, where Kafka does not look, are the older
//! batches of each producer, which Kafka forgets on a restart, and the transactions that ended not long before.

use std::collections::VecDeque;

use super::{Ended, Producer, Producers, Remembered};

impl Producers {
    /// The content of a `.snapshot` file.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(8 + self.by_id.len() * 64);
        body.extend_from_slice(&(self.by_id.len() as i32).to_be_bytes());
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        for id in &ids {
            let producer = &self.by_id[id];
            let last = producer.batches.back().copied().unwrap_or(Remembered {
                last_sequence: -1,
                last_offset: -1,
                offset_delta: 0,
                timestamp: producer.heard_ms,
                crc: None,
            });
            body.extend_from_slice(&id.to_be_bytes());
            body.extend_from_slice(&producer.epoch.to_be_bytes());
            body.extend_from_slice(&last.last_sequence.to_be_bytes());
            body.extend_from_slice(&last.last_offset.to_be_bytes());
            body.extend_from_slice(&last.offset_delta.to_be_bytes());
            body.extend_from_slice(&producer.heard_ms.to_be_bytes());
            body.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&producer.transaction_start.unwrap_or(-1).to_be_bytes());
        }
        body.extend_from_slice(OLDER);
        for id in &ids {
            let batches = &self.by_id[id].batches;
            body.push(batches.len() as u8);
            for batch in batches {
                body.extend_from_slice(&batch.last_sequence.to_be_bytes());
                body.extend_from_slice(&batch.last_offset.to_be_bytes());
                body.extend_from_slice(&batch.offset_delta.to_be_bytes());
                body.extend_from_slice(&batch.timestamp.to_be_bytes());
                body.extend_from_slice(&batch.crc.map_or(-1, i64::from).to_be_bytes());
            }
        }
        body.extend_from_slice(&(self.ended.0.len() as u32).to_be_bytes());
        for ended in &self.ended.0 {
            body.extend_from_slice(&ended.first_offset.to_be_bytes());
            body.extend_from_slice(&ended.marker.to_be_bytes());
        }
        let mut bytes = Vec::with_capacity(body.len() + 6);
        bytes.extend_from_slice(&1_i16.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a `.snapshot` file, ours or Kafka's; none if it is damaged.
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let version = i16::from_be_bytes(fields.take()?);
        let crc = u32::from_be_bytes(fields.take()?);
        if version != 1 || crc != crc32c::crc32c(fields.0) {
            return None;
        }
        let count = i32::from_be_bytes(fields.take()?);
        let mut producers = Self::default();
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = i64::from_be_bytes(fields.take()?);
            let epoch = i16::from_be_bytes(fields.take()?);
            let last_sequence = i32::from_be_bytes(fields.take()?);
            let last_offset = i64::from_be_bytes(fields.take()?);
            let offset_delta = i32::from_be_bytes(fields.take()?);
            let heard_ms = i64::from_be_bytes(fields.take()?);
            let coordinator_epoch = i32::from_be_bytes(fields.take()?);
            let transaction_start = Some(i64::from_be_bytes(fields.take()?)).filter(|first| *first >= 0);
            if let Some(first_offset) = transaction_start {
                producers.open.begin(id, first_offset);
            }
            let last = Remembered {
                last_sequence,
                last_offset,
                offset_delta,
                timestamp: heard_ms,
                crc: None,
            };
            let batches = (last_sequence >= 0).then_some(last).into_iter().collect();
            producers.by_id.insert(
                id,
                Producer {
                    epoch,
                    heard_ms,
                    batches,
                    coordinator_epoch,
                    transaction_start,
                },
            );
            ids.push(id);
        }
        if fields.0.starts_with(OLDER) {
            fields.0 = &fields.0[OLDER.len()..];
            for id in ids {
                let [count] = fields.take()?;
                let batches = (0..count)
                    .map(|_| fields.remembered())
                    .collect::<Option<VecDeque<_>>>()?;
                producers.by_id.get_mut(&id)?.batches = batches;
            }
            // Those that were written before there were transactions end here.
            let ended = fields.take().map_or(0, u32::from_be_bytes);
            for _ in 0..ended {
                producers.ended.push(Ended {
                    first_offset: i64::from_be_bytes(fields.take()?),
                    marker: i64::from_be_bytes(fields.take()?),
                });
            }
        }
        Some(producers)
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn remembered(&mut self) -> Option<Remembered> {
        Some(Remembered {
            last_sequence: i32::from_be_bytes(self.take()?),
            last_offset: i64::from_be_bytes(self.take()?),
            offset_delta: i32::from_be_bytes(self.take()?),
            timestamp: i64::from_be_bytes(self.take()?),
            crc: u32::try_from(i64::from_be_bytes(self.take()?)).ok(),
        })
    }
}

/// Begins what we add to Kafka's snapshot.
const OLDER: &[u8] = b"millstream-2";
