//! The commit log: append-only segments of checksummed frames.
//!
//! ```text
//! segment  "GRMLOG01" | u64 number | store id (16) | u64 first sequence | u32 CRC-32 | frame*
//! frame    "GRFM" | u32 length | u32 CRC-32 | u64 sequence | u64 synced | batch
//! ```
//!
//! A frame's CRC covers the store's id and everything in the frame but the magic and itself. The id is
//! random, so no value that a client stores can look like a frame of this log.
//!
//! A crash leaves a torn tail, and that is normal: what was not synced was not promised. Damage in the middle
//! is not normal, and must not be mistaken for a tail. So each frame says up to which sequence the log was
//! *synced* when it was written: a bad frame that a later good one calls synced is damage, any other is tail.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use crate::directory::{private_options, sync_directory};
use crate::error::OpenError;

const MAGIC: &[u8; 8] = b"GRMLOG01";
const FRAME_MAGIC: &[u8; 4] = b"GRFM";
const HEADER: usize = 8 + 8 + 16 + 8 + 4;
const FRAME_HEADER: usize = 4 + 4 + 4 + 8 + 8;

/// Appends a frame to `out`; `encode` writes the batch.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    store: &[u8; 16],
    sequence: u64,
    synced: u64,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(FRAME_MAGIC);
    out.put_u64_le(0);
    out.put_u64_le(sequence);
    out.put_u64_le(synced);
    encode(out);
    let length = (out.len() - start - FRAME_HEADER) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = frame_checksum(store, &out[start..]);
    out[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
}

fn frame_checksum(store: &[u8; 16], frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(store);
    hasher.update(&frame[4..8]);
    hasher.update(&frame[12..]);
    hasher.finalize()
}

/// One frame as it was read.
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    synced: u64,
    pub(crate) batch: Bytes,
}

/// Takes a whole, valid frame from the front.
fn take_frame(store: &[u8; 16], rest: &mut Bytes) -> Option<Frame> {
    if rest.len() < FRAME_HEADER || !rest.starts_with(FRAME_MAGIC) {
        return None;
    }
    let mut header = &rest[4..FRAME_HEADER];
    let (length, checksum) = (header.get_u32_le() as usize, header.get_u32_le());
    let (sequence, synced) = (header.get_u64_le(), header.get_u64_le());
    let end = FRAME_HEADER.checked_add(length).filter(|&end| end <= rest.len())?;
    if frame_checksum(store, &rest[..end]) != checksum {
        return None;
    }
    let batch = rest.split_to(end).slice(FRAME_HEADER..);
    Some(Frame { sequence, synced, batch })
}

struct Segment {
    number: u64,
    /// The last sequence in it, or the one before its first.
    last: u64,
    bytes: u64,
}

/// The open end of the log.
pub(crate) struct LogWriter {
    directory: PathBuf,
    store: [u8; 16],
    file: File,
    /// Oldest first; the last one is open.
    segments: VecDeque<Segment>,
}

impl LogWriter {
    /// Starts segment `number`, in which the frame after `last` will come first.
    pub(crate) fn create(directory: &Path, store: [u8; 16], number: u64, last: u64) -> io::Result<Self> {
        let file = create_segment(directory, store, number, last)?;
        let segments = [Segment { number, last, bytes: HEADER as u64 }].into();
        Ok(Self { directory: directory.to_owned(), store, file, segments })
    }

    /// Appends whole frames, the last of which is `last`. On an error nothing is kept, or the error is final.
    pub(crate) fn append(&mut self, frames: &[u8], last: u64) -> Result<(), AppendError> {
        let Some(open) = self.segments.back_mut() else { return Err(AppendError::Final) };
        if let Err(error) = self.file.write_all(frames) {
            // Take back what was written of it, or a later frame would follow half a one.
            let taken_back = self.file.set_len(open.bytes).and_then(|()| {
                use std::io::Seek;
                self.file.seek(io::SeekFrom::Start(open.bytes)).map(drop)
            });
            tracing::error!(%error, "writing the commit log failed");
            let full = error.kind() == io::ErrorKind::StorageFull;
            return Err(if full && taken_back.is_ok() { AppendError::Full } else { AppendError::Final });
        }
        open.bytes += frames.len() as u64;
        open.last = last;
        Ok(())
    }

    /// Returns once all that was appended is on the device.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// How many bytes the open segment has.
    pub(crate) fn open_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.bytes)
    }

    /// How many bytes all segments have.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Syncs the open segment and starts the next.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let (number, last) = self.segments.back().map_or((1, 0), |open| (open.number + 1, open.last));
        self.file = create_segment(&self.directory, self.store, number, last)?;
        self.segments.push_back(Segment { number, last, bytes: HEADER as u64 });
        Ok(())
    }

    /// The first segment that holds a frame after `sequence`, or the open one.
    pub(crate) fn first_needed(&self, sequence: u64) -> u64 {
        let open = self.segments.back().map_or(1, |open| open.number);
        self.segments.iter().find(|segment| segment.last > sequence).map_or(open, |segment| segment.number)
    }

    /// Removes the segments before `number`.
    pub(crate) fn drop_before(&mut self, number: u64) -> io::Result<()> {
        while let Some(oldest) = self.segments.front().filter(|oldest| oldest.number < number) {
            if self.segments.len() == 1 {
                break;
            }
            fs::remove_file(segment_path(&self.directory, oldest.number))?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// Why frames were not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// The disk is full; the log is as it was before.
    Full,
    /// Unknown what is on the disk.
    Final,
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.log"))
}

fn create_segment(directory: &Path, store: [u8; 16], number: u64, last: u64) -> io::Result<File> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.put_u64_le(number);
    header.extend_from_slice(&store);
    header.put_u64_le(last + 1);
    header.put_u32_le(crc32fast::hash(&header));
    let mut file = private_options().create_new(true).open(segment_path(directory, number))?;
    file.write_all(&header)?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok(file)
}

/// What was found when a log was read.
pub(crate) struct Recovered {
    pub(crate) last: u64,
    pub(crate) writer: LogWriter,
}

/// Reads the log from segment `first`, hands each frame after `after` to `replay`, cuts a torn tail off, and
/// opens the log for appending.
pub(crate) fn recover(
    directory: &Path,
    store: [u8; 16],
    first: u64,
    after: u64,
    mut replay: impl FnMut(Frame) -> Result<(), OpenError>,
) -> Result<Recovered, OpenError> {
    let numbers = list_segments(directory)?;
    let mut segments = VecDeque::new();
    let mut last = None;
    let mut open_bytes = Bytes::new();
    let newest = numbers.iter().copied().max();
    let needed = numbers.into_iter().filter(|&number| number >= first);
    for (expected, number) in (first..).zip(needed) {
        let path = segment_path(directory, number);
        if number != expected {
            return Err(OpenError::damaged(segment_path(directory, expected), "a log segment is missing"));
        }
        let bytes = Bytes::from(fs::read(&path).map_err(OpenError::io(&path))?);
        let Some(first_sequence) = read_header(&bytes, store, number) else {
            if newest == Some(number) && last.is_some() && bytes.len() <= HEADER {
                // A crash while it was being made: nothing was ever appended to it.
                fs::remove_file(&path).map_err(OpenError::io(&path))?;
                sync_directory(directory).map_err(OpenError::io(directory))?;
                break;
            }
            return Err(OpenError::damaged(path, "not a segment of this store's log"));
        };
        if last.is_some_and(|last| first_sequence != last + 1) || first_sequence > after + 1 && last.is_none()
        {
            return Err(OpenError::damaged(path, "batches before this log segment are missing"));
        }
        let read = Segmented { path: &path, store: &store, is_newest: newest == Some(number) };
        let (end, segment_last) =
            read.replay(
                &bytes,
                first_sequence,
                |frame| {
                    if frame.sequence > after { replay(frame) } else { Ok(()) }
                },
            )?;
        last = Some(segment_last);
        open_bytes = bytes.slice(..end);
        segments.push_back(Segment { number, last: segment_last, bytes: end as u64 });
    }
    let (Some(open), Some(last)) = (segments.back(), last) else {
        return Err(OpenError::damaged(segment_path(directory, first), "the commit log is missing"));
    };
    let path = segment_path(directory, open.number);
    if last < after {
        // A checkpoint syncs the log before it writes a row, so this was not a crash.
        return Err(OpenError::damaged(path, "the log ends before the last checkpoint"));
    }
    let file = reopen(&path, &open_bytes).map_err(OpenError::io(&path))?;
    for stale in list_segments(directory)?.into_iter().filter(|&number| number < first) {
        let path = segment_path(directory, stale);
        fs::remove_file(&path).map_err(OpenError::io(path))?;
    }
    sync_directory(directory).map_err(OpenError::io(directory))?;
    Ok(Recovered { last, writer: LogWriter { directory: directory.to_owned(), store, file, segments } })
}

/// Opens the newest segment behind its good bytes, and makes them durable. They are written once more: if a
/// sync of them had failed before the restart, the kernel may hold them as clean though they never reached
/// the device, and another sync would do nothing.
fn reopen(path: &Path, good: &[u8]) -> io::Result<File> {
    let mut file = private_options().open(path)?;
    file.write_all(good)?;
    file.set_len(good.len() as u64)?;
    file.sync_all()?;
    Ok(file)
}

fn list_segments(directory: &Path) -> Result<Vec<u64>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(OpenError::io(directory))? {
        let name = entry.map_err(OpenError::io(directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The first sequence that a segment's header names.
fn read_header(bytes: &Bytes, store: [u8; 16], number: u64) -> Option<u64> {
    let header = bytes.get(..HEADER)?;
    let (body, checksum) = header.split_last_chunk::<4>()?;
    let whole = crc32fast::hash(body) == u32::from_le_bytes(*checksum) && body.starts_with(MAGIC);
    let mut rest = &body[8..];
    let ours = rest.get_u64_le() == number && rest.starts_with(&store);
    rest.advance(16);
    (whole && ours).then(|| rest.get_u64_le())
}

/// A segment that is being read.
struct Segmented<'a> {
    path: &'a Path,
    store: &'a [u8; 16],
    is_newest: bool,
}

impl Segmented<'_> {
    /// Returns where the good frames end, and the last one's sequence.
    fn replay(
        &self,
        bytes: &Bytes,
        first_sequence: u64,
        mut replay: impl FnMut(Frame) -> Result<(), OpenError>,
    ) -> Result<(usize, u64), OpenError> {
        let mut rest = bytes.slice(HEADER..);
        let mut last = first_sequence - 1;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            let mut after = rest.clone();
            match take_frame(self.store, &mut after) {
                Some(frame) if frame.sequence == last + 1 => {
                    last = frame.sequence;
                    rest = after;
                    replay(frame)?;
                }
                _ if self.is_newest && self.synced_beyond(&rest, last) <= last => return Ok((at, last)),
                _ => {
                    let what = format!("a synced batch is damaged, at byte {at}");
                    return Err(OpenError::damaged(self.path, what));
                }
            }
        }
        Ok((bytes.len(), last))
    }

    /// The highest sequence that a whole frame in `rest`, wherever it begins, calls synced.
    fn synced_beyond(&self, rest: &Bytes, last: u64) -> u64 {
        let (mut highest, mut at, mut hashed) = (0, 0, 0);
        while at < rest.len() && hashed < SCAN_BYTES {
            let mut candidate = rest.slice(at..);
            if !candidate.starts_with(FRAME_MAGIC) {
                at += 1;
                continue;
            }
            let before = candidate.len();
            match take_frame(self.store, &mut candidate) {
                Some(frame) if frame.sequence > last && frame.synced < frame.sequence => {
                    highest = highest.max(frame.synced);
                    at += before - candidate.len();
                }
                _ => {
                    hashed += before;
                    at += 1;
                }
            }
        }
        highest
    }
}

/// How many bytes of things that only begin like frames are looked into.
const SCAN_BYTES: usize = 1 << 30;

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &Bytes) {
    let store = [1; 16];
    let _ = take_frame(&store, &mut bytes.clone());
    let mut framed = Vec::new();
    put_frame(&mut framed, &store, 2, 1, |out| out.extend_from_slice(bytes));
    assert!(take_frame(&store, &mut framed.into()).is_some_and(|frame| frame.batch == bytes));
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
        assert_eq!(hex, "4752464d050000007d8f6ef3030000000000000002000000000000006261746368");
        let mut bytes = Bytes::from(out);
        assert!(take_frame(&[8; 16], &mut bytes.clone()).is_none(), "a frame of another store");
        let frame = take_frame(&[7; 16], &mut bytes).expect("a frame");
        assert_eq!((frame.sequence, frame.synced, &frame.batch[..]), (3, 2, &b"batch"[..]));
    }
}
