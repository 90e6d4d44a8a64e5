//! How large things may be. Every decoder checks against these before it allocates.

/// The longest bucket or key, in bytes; the shortest is 1.
pub const NAME: usize = 1_024;
/// The longest name of a bucket type, in bytes.
pub const TYPE: usize = 255;
/// The largest value unless configured otherwise, in bytes.
pub const VALUE: usize = 1 << 20;
/// The largest value that may be configured, in bytes.
pub const MAX_VALUE: usize = 16 << 20;
/// All siblings of a key together, in bytes: well below what fits into one message.
pub const OBJECT: u64 = 32 << 20;
/// The largest object that a replica keeps, in bytes, whatever is merged into it: it must fit into a message.
pub const STORED: u64 = 48 << 20;
/// All headers of a value together, in bytes.
pub const HEADERS: usize = 16 << 10;
/// The last instant at which a value may expire, in milliseconds since 1970: the end of the year 9999.
pub const LATEST_EXPIRY: u64 = 253_402_300_799_000;
/// Siblings under one key before a put is refused, unless the bucket says otherwise.
pub const SIBLINGS: u32 = 100;
