//! Frames on a stream.
//!
//! ```text
//! u32 length of the rest | u8 kind | u8 flags = 0 | u16 method | u64 id | u32 time to live, µs | body
//! ```
//!
//! Little-endian. The length is checked before anything is allocated for it. The time to live is relative, so
//! that clocks need not agree; 0 means none.

use bytes::{Buf, BufMut, Bytes};

/// The most that follows a length, in bytes.
pub const MAX_FRAME: usize = 64 << 20;

const HEADER: usize = 1 + 1 + 2 + 8 + 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request, or a message that wants no answer.
    Request,
    /// The answer to a request.
    Reply,
    /// Nobody waits for the answer any more.
    Cancel,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Request, Self::Reply, Self::Cancel, Self::Ping, Self::Pong];

    const fn code(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
            Self::Cancel => 3,
            Self::Ping => 4,
            Self::Pong => 5,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Which message its body is.
    pub method: u16,
    /// Which request it is, or answers.
    pub id: u64,
    /// How long it is worth anything, in microseconds; 0 for as long as it takes.
    pub ttl: u32,
    /// The message.
    pub body: Bytes,
}

/// A frame without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// See [`Frame::kind`].
    pub kind: Kind,
    /// See [`Frame::method`].
    pub method: u16,
    /// See [`Frame::id`].
    pub id: u64,
    /// See [`Frame::ttl`].
    pub ttl: u32,
}

impl Head {
    /// The frame with this body.
    #[must_use]
    pub const fn with(self, body: Bytes) -> Frame {
        let Self { kind, method, id, ttl } = self;
        Frame { kind, method, id, ttl, body }
    }

    /// Appends it without its length; returns where the body goes.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) -> usize {
        out.put_u32_le(0);
        out.put_u8(self.kind.code());
        out.put_u8(0);
        out.put_u16_le(self.method);
        out.put_u64_le(self.id);
        out.put_u32_le(self.ttl);
        out.len()
    }

    /// The body is there: sets the length of the frame that begins at `start`.
    pub(crate) fn end(&self, out: &mut [u8], start: usize) {
        // A link refuses bodies near the limit before they come here.
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Bytes that are no frame; the connection that brought them is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit, or too small for a header.
    #[error("a frame of {0} bytes")]
    Length(u32),
    /// Unknown kind or flags.
    #[error("a frame of unknown kind {0} or flags {1}")]
    Kind(u8, u8),
}

impl Frame {
    /// A frame without a body.
    #[must_use]
    pub const fn signal(kind: Kind, id: u64) -> Self {
        Self { kind, method: 0, id, ttl: 0, body: Bytes::new() }
    }

    /// How many bytes it takes on a stream.
    #[must_use]
    pub const fn size(&self) -> usize {
        4 + HEADER + self.body.len()
    }

    /// It without its body.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { kind: self.kind, method: self.method, id: self.id, ttl: self.ttl }
    }

    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.size());
        self.head().begin(out);
        out.extend_from_slice(&self.body);
        self.head().end(out, start);
    }
}

/// Puts frames together from the pieces in which they arrive.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    max: usize,
}

impl Decoder {
    /// A decoder that takes frames of at most `max` bytes.
    pub(crate) const fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), max }
    }

    /// Takes bytes, and appends the frames that are whole now to `frames`. Each body gets memory of its own:
    /// what is kept long must not pin what it arrived in.
    pub(crate) fn feed(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(bytes);
        let mut rest = &self.buffer[..];
        while let Some(frame) = take_frame(&mut rest, self.max)? {
            frames.push(frame);
        }
        let used = self.buffer.len() - rest.len();
        self.buffer.drain(..used);
        Ok(())
    }

    /// Whether everything fed was a whole number of frames.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

fn take_frame(rest: &mut &[u8], max: usize) -> Result<Option<Frame>, FrameError> {
    let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    if !(HEADER..=max).contains(&(length as usize)) {
        return Err(FrameError::Length(length));
    }
    let Some((mut frame, after)) = after.split_at_checked(length as usize) else { return Ok(None) };
    let (code, flags) = (frame.get_u8(), frame.get_u8());
    let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code && flags == 0);
    let kind = kind.ok_or(FrameError::Kind(code, flags))?;
    let (method, id, ttl) = (frame.get_u16_le(), frame.get_u64_le(), frame.get_u32_le());
    *rest = after;
    Ok(Some(Frame { kind, method, id, ttl, body: Bytes::copy_from_slice(frame) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &'static [u8]) -> Frame {
        Frame { kind: Kind::Request, method: 3, id: 4, ttl: 5, body: Bytes::from_static(body) }
    }

    /// The bytes on every connection.
    #[test]
    fn golden() {
        let mut bytes = Vec::new();
        frame(b"hi").encode(&mut bytes);
        let golden = b"\x12\0\0\0\x01\0\x03\0\x04\0\0\0\0\0\0\0\x05\0\0\0hi";
        assert_eq!(bytes, golden);
    }

    #[test]
    fn frames_arrive_in_any_pieces() {
        let mut bytes = Vec::new();
        let sent = [frame(b""), frame(b"hello"), Frame::signal(Kind::Ping, 9)];
        sent.iter().for_each(|frame| frame.encode(&mut bytes));
        for size in 1..bytes.len() {
            let (mut decoder, mut frames) = (Decoder::new(100), Vec::new());
            bytes.chunks(size).for_each(|piece| decoder.feed(piece, &mut frames).expect("frames"));
            assert!(frames == sent && decoder.is_empty(), "pieces of {size}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_once() {
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.feed(&101_u32.to_le_bytes(), &mut Vec::new()), Err(FrameError::Length(101)));
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.feed(&3_u32.to_le_bytes(), &mut Vec::new()), Err(FrameError::Length(3)));
        let mut bytes = Vec::new();
        frame(b"").encode(&mut bytes);
        bytes[4] = 77;
        assert_eq!(Decoder::new(100).feed(&bytes, &mut Vec::new()), Err(FrameError::Kind(77, 0)));
    }
}
