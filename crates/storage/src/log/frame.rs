//! One frame: a batch with a header that has a checksum of its own.
//!
//! ```text
//! frame  "GRFM" | u32 length | u64 sequence | u64 synced | u32 CRC-32 of the header | u32 CRC-32 of the batch | batch
//! ```
//!
//! Both checksums cover the store's id, which is random: no value that a client stores can look like a frame of
//! this log. With a checksum of its own a header can be believed when the batch behind it cannot: a frame is
//! then skipped in one step, however long it is and whatever is in it.

use bytes::{Buf, BufMut, Bytes};

pub(super) const MAGIC: &[u8; 4] = b"GRFM";
const CHECKED: usize = 4 + 4 + 8 + 8;
pub(super) const HEADER: usize = CHECKED + 4 + 4;

/// Appends a frame to `out`; `encode` writes the batch.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    store: &[u8; 16],
    sequence: u64,
    synced: u64,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.put_u32_le(0);
    out.put_u64_le(sequence);
    out.put_u64_le(synced);
    out.put_u64_le(0);
    encode(out);
    let length = (out.len() - start - HEADER) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let header = checksum(store, &out[start..start + CHECKED]);
    let batch = checksum(store, &out[start + HEADER..]);
    out[start + CHECKED..start + CHECKED + 4].copy_from_slice(&header.to_le_bytes());
    out[start + CHECKED + 4..start + HEADER].copy_from_slice(&batch.to_le_bytes());
}

fn checksum(store: &[u8; 16], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(store);
    hasher.update(bytes);
    hasher.finalize()
}

/// A header that its checksum vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    length: usize,
    pub(super) sequence: u64,
    /// The log was synced up to here when the frame was written.
    pub(super) synced: u64,
    batch: u32,
}

impl Header {
    /// The header that `bytes` begin with, if it is one.
    pub(super) fn read(store: &[u8; 16], bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER).filter(|header| header.starts_with(MAGIC))?;
        let (checked, mut sums) = header.split_at(CHECKED);
        if checksum(store, checked) != sums.get_u32_le() {
            return None;
        }
        let mut rest = &checked[MAGIC.len()..];
        let length = rest.get_u32_le() as usize;
        let (sequence, synced) = (rest.get_u64_le(), rest.get_u64_le());
        Some(Self { length, sequence, synced, batch: sums.get_u32_le() })
    }

    /// Bytes of the whole frame.
    pub(super) const fn size(&self) -> usize {
        HEADER + self.length
    }
}

/// One frame as it was read.
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) batch: Bytes,
}

/// Takes a whole, valid frame from the front.
pub(super) fn take_frame(store: &[u8; 16], rest: &mut Bytes) -> Option<Frame> {
    let header = Header::read(store, rest)?;
    let batch = rest.get(HEADER..header.size())?;
    if checksum(store, batch) != header.batch {
        return None;
    }
    let batch = rest.split_to(header.size()).slice(HEADER..);
    Some(Frame { sequence: header.sequence, batch })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes in every log.
    #[test]
    fn golden() {
        let mut out = Vec::new();
        put_frame(&mut out, &[7; 16], 3, 2, |out| out.extend_from_slice(b"batch"));
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../../tests/golden/frame-2.hex").trim());
        let mut bytes = Bytes::from(out);
        assert!(take_frame(&[8; 16], &mut bytes.clone()).is_none(), "a frame of another store");
        let header = Header::read(&[7; 16], &bytes).expect("a header");
        assert_eq!((header.sequence, header.synced, header.size()), (3, 2, bytes.len()));
        let frame = take_frame(&[7; 16], &mut bytes).expect("a frame");
        assert_eq!((frame.sequence, &frame.batch[..], bytes.len()), (3, &b"batch"[..], 0));
    }
}
