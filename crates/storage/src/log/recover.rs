//! Reading a log back: what is a torn tail, and what is damage.
//!
//! A crash leaves a torn tail, and that is normal: what was not synced was not promised. Damage in the middle
//! is not normal, and must not be mistaken for a tail. So each frame says up to which sequence the log was
//! *synced* when it was written: a bad frame that the header of a later one calls synced is damage, any other
//! is tail.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use bytes::{Buf, Bytes};

use super::frame::{Frame, Header, take_frame};
use super::{HEADER, LogWriter, MAGIC, Segment, segment_path};
use crate::error::OpenError;
use crate::files::{private_options, sync_directory};

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
    let reserved = open.bytes;
    for stale in list_segments(directory)?.into_iter().filter(|&number| number < first) {
        let path = segment_path(directory, stale);
        fs::remove_file(&path).map_err(OpenError::io(path))?;
    }
    sync_directory(directory).map_err(OpenError::io(directory))?;
    Ok(Recovered {
        last,
        writer: LogWriter { directory: directory.to_owned(), store, file, reserved, segments },
    })
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
    let first_sequence = rest.get_u64_le();
    // Batches count from 1.
    (whole && ours && first_sequence > 0).then_some(first_sequence)
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
                _ if self.is_newest && self.synced_beyond(&rest) <= last => return Ok((at, last)),
                _ => {
                    let what = format!("a synced batch is damaged, at byte {at}");
                    return Err(OpenError::damaged(self.path, what));
                }
            }
        }
        Ok((bytes.len(), last))
    }

    /// The highest sequence that a later header calls synced. Headers vouch for themselves, so no batch is looked
    /// into, and all that is left is looked at, whatever it holds.
    fn synced_beyond(&self, rest: &[u8]) -> u64 {
        let (mut highest, mut at) = (0, 0);
        while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
            match Header::read(self.store, left) {
                Some(header) => {
                    highest = highest.max(header.synced);
                    at += header.size();
                }
                None => at += 1,
            }
        }
        highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_begins_with_no_batch_is_none_of_ours() {
        let header = |first_sequence: u64| {
            let mut header = [MAGIC.as_slice(), &7_u64.to_le_bytes(), &[1; 16]].concat();
            header.extend(first_sequence.to_le_bytes());
            header.extend(crc32fast::hash(&header).to_le_bytes());
            Bytes::from(header)
        };
        assert_eq!(read_header(&header(1), [1; 16], 7), Some(1));
        assert_eq!(read_header(&header(0), [1; 16], 7), None);
        assert_eq!(read_header(&header(1), [1; 16], 8), None);
    }
}
