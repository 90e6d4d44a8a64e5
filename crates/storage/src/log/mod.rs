//! The commit log: append-only segments of checksummed frames.
//!
//! ```text
//! segment  "GRMLOG02" | u64 number | store id (16) | u64 first sequence | u32 CRC-32 | frame* | zeros
//! ```
//!
//! The open segment is longer than its frames: zeros lie ahead of them, and frames are written over zeros. A
//! sync that also has to make a new length durable writes twice, to two places (and waits for a journal, where
//! there is one); over zeros it writes once. A segment that is complete has none behind its last frame.

mod frame;
mod recover;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::BufMut;

pub(crate) use frame::{Frame, put_frame};
pub(crate) use recover::recover;

use crate::files::{private_options, sync_directory};

const MAGIC: &[u8; 8] = b"GRMLOG02";
const HEADER: usize = 8 + 8 + 16 + 8 + 4;
/// So much is written ahead at once.
const AHEAD: usize = 1 << 20;
static ZEROS: [u8; AHEAD] = [0; AHEAD];

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
    /// Up to where the open segment's file reaches.
    reserved: u64,
    /// Oldest first; the last one is open.
    segments: VecDeque<Segment>,
}

impl LogWriter {
    /// Starts segment `number`, in which the frame after `last` will come first.
    pub(crate) fn create(directory: &Path, store: [u8; 16], number: u64, last: u64) -> io::Result<Self> {
        let file = create_segment(directory, store, number, last)?;
        let segments = [Segment { number, last, bytes: HEADER as u64 }].into();
        Ok(Self { directory: directory.to_owned(), store, file, reserved: HEADER as u64, segments })
    }

    /// Appends whole frames, the last of which is `last`. On an error nothing is kept, or the error is final.
    pub(crate) fn append(&mut self, frames: &[u8], last: u64) -> Result<(), AppendError> {
        let Some(open) = self.segments.back_mut() else { return Err(AppendError::Final) };
        let end = open.bytes + frames.len() as u64;
        if let Err(error) = self.file.write_all_at(frames, open.bytes) {
            // Take back what was written of it, or a later frame would follow half a one.
            let taken_back = self.file.set_len(open.bytes);
            self.reserved = open.bytes;
            tracing::error!(%error, "writing the commit log failed");
            let full = error.kind() == io::ErrorKind::StorageFull;
            return Err(if full && taken_back.is_ok() { AppendError::Full } else { AppendError::Final });
        }
        open.bytes = end;
        open.last = last;
        self.write_ahead(frames.len(), end);
        Ok(())
    }

    /// Writes zeros behind `end` where the next frames would make the file longer. Large frames do that anyway,
    /// and zeros before them would only be written twice.
    fn write_ahead(&mut self, frames: usize, end: u64) {
        if self.reserved < end + frames as u64 && frames < AHEAD / 4 {
            // A disk that has no room for it may have room for frames yet; it is not tried again before the next
            // segment.
            let is_written = self.file.write_all_at(&ZEROS, end).is_ok();
            self.reserved = if is_written { end + AHEAD as u64 } else { u64::MAX };
        }
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
        self.file.set_len(self.open_bytes())?;
        self.sync()?;
        let (number, last) = self.segments.back().map_or((1, 0), |open| (open.number + 1, open.last));
        self.reserved = HEADER as u64;
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

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &bytes::Bytes) {
    let store = [1; 16];
    let _ = frame::take_frame(&store, &mut bytes.clone());
    let mut framed = Vec::new();
    put_frame(&mut framed, &store, 2, 1, |out| out.extend_from_slice(bytes));
    assert!(frame::take_frame(&store, &mut framed.into()).is_some_and(|frame| frame.batch == bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(log: &LogWriter) -> u64 {
        log.file.metadata().expect("an open file").len()
    }

    #[test]
    fn small_frames_are_written_over_zeros_and_large_ones_are_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = LogWriter::create(directory.path(), [1; 16], 1, 0).expect("a log");
        let frame = vec![1; 60_000];
        for sequence in 1..100 {
            log.append(&frame, sequence).expect("room on the disk");
            let free = length(&log) - log.open_bytes();
            assert!(
                free >= frame.len() as u64,
                "the next frame would make the file longer: {free} bytes are free"
            );
            assert!(free <= AHEAD as u64, "{free} bytes are written ahead");
        }
        log.rotate().expect("a next segment");
        assert_eq!(length(&log), HEADER as u64);
        log.append(&vec![1; AHEAD / 4], 100).expect("room on the disk");
        assert_eq!(length(&log), log.open_bytes());
    }
}
