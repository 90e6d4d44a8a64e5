//! Pages of rows in the order of their names, over the object buffer and the engine.
//!
//! The buffer is looked at first: what a checkpoint moves to the engine meanwhile is then seen twice, and never
//! not at all.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::batch::{Name, Space};
use crate::buffer::Pending;
use crate::engine::end_of;
use crate::error::ReadError;
use crate::rows;
use crate::shared::Shared;

/// A page ends when its objects have so many bytes together, however few they are.
const PAGE_BYTES: usize = 4 << 20;

/// Which rows: those of a space whose places lie between two hashes, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The space.
    pub space: Space,
    /// The first place.
    pub first: u64,
    /// The last place.
    pub last: u64,
    /// Only rows after this one.
    pub after: Option<Name>,
}

/// Some rows, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows' names and objects.
    pub rows: Vec<(Name, Bytes)>,
    /// After which row the range goes on, if it does: the last one that was looked at, whether it is still
    /// there or not.
    pub next: Option<Name>,
    /// Rows that cannot be read, and why; they are left out.
    pub unreadable: Vec<(Name, String)>,
}

enum Found {
    Pending(Pending),
    Head(Vec<u8>, Bytes),
}

pub(crate) fn page(shared: &Shared, range: &Range, limit: usize) -> Result<Page, ReadError> {
    let limit = limit.max(1);
    let from = match &range.after {
        Some(after) => Bound::Excluded(after.clone()),
        None => Bound::Included(Name { space: range.space, hash: range.first, key: Bytes::new() }),
    };
    let to = match range.last.checked_add(1) {
        Some(hash) => Bound::Excluded(Name { space: range.space, hash, key: Bytes::new() }),
        None => match range.space {
            Space::Data => Bound::Excluded(Name { space: Space::Hint(0), hash: 0, key: Bytes::new() }),
            Space::Hint(target) => match target.checked_add(1) {
                Some(next) => Bound::Excluded(Name { space: Space::Hint(next), hash: 0, key: Bytes::new() }),
                None => Bound::Unbounded,
            },
        },
    };
    let (pending, complete_to) = shared.buffer().objects_after((from, to), limit);
    let mut rows: BTreeMap<Name, Found> = BTreeMap::new();
    let is_cut = read_heads(shared, range, limit, complete_to.as_ref(), &mut rows)?;
    let engine_to = rows.keys().next_back().filter(|_| is_cut).cloned();
    let known_to = match (complete_to, engine_to) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    rows.extend(pending.into_iter().map(|(name, pending)| (name, Found::Pending(pending))));
    let mut page = Page { rows: Vec::new(), next: known_to.clone(), unreadable: Vec::new() };
    let (mut bytes, mut last) = (0, None);
    for (name, found) in rows {
        if known_to.as_ref().is_some_and(|known_to| name > *known_to) {
            break;
        }
        if page.rows.len() + page.unreadable.len() == limit || bytes >= PAGE_BYTES {
            page.next = last;
            break;
        }
        last = Some(name.clone());
        let object = match found {
            Found::Pending(Pending::Data { value, .. }) => value,
            Found::Pending(Pending::Removed) => continue,
            Found::Head(key, head) => match read_row(shared, &name, &key, &head) {
                Ok(Some(object)) => object,
                Ok(None) => continue,
                // One row that is damaged must not hide all others.
                Err(ReadError::Damaged(why)) => {
                    page.unreadable.push((name, why.to_owned()));
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        bytes += object.len();
        page.rows.push((name, object));
    }
    Ok(page)
}

/// The object of a row by its head; nothing if it was removed since.
fn read_row(shared: &Shared, name: &Name, key: &[u8], head: &Bytes) -> Result<Option<Bytes>, ReadError> {
    let engine = shared.engine();
    match rows::get_data(engine.as_ref(), key, head) {
        Ok((_, object)) => Ok(Some(object)),
        // A checkpoint has replaced it since: it is read anew.
        Err(_) if engine.get(key)?.as_ref() != Some(head) => reread(shared, name, key),
        Err(error) => Err(error),
    }
}

fn reread(shared: &Shared, name: &Name, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
    if let crate::buffer::Known::Value(value) = shared.buffer().get(name) {
        return Ok(Some(value));
    }
    let engine = shared.engine();
    match engine.get(key)? {
        Some(head) => Ok(Some(rows::get_data(engine.as_ref(), key, &head)?.1)),
        None => Ok(None),
    }
}

/// Reads the heads of at most `limit` rows; says whether there were more.
fn read_heads(
    shared: &Shared,
    range: &Range,
    limit: usize,
    to: Option<&Name>,
    rows: &mut BTreeMap<Name, Found>,
) -> Result<bool, ReadError> {
    let from = match &range.after {
        // The first key after it.
        Some(after) => [&after.engine_key()[..], &[0]].concat(),
        None => rows::place_key(range.space, range.first),
    };
    let end = match (to, range.last.checked_add(1)) {
        (Some(to), _) => Some([&to.engine_key()[..], &[0]].concat()),
        (None, Some(next)) => Some(rows::place_key(range.space, next)),
        (None, None) => end_of(&rows::space_prefix(range.space)),
    };
    let mut is_cut = false;
    shared.engine().range(&from, end.as_deref(), &mut |key, head| {
        if rows.len() == limit {
            is_cut = true;
            return false;
        }
        if let Some(name) = Name::of_engine_key(range.space, key) {
            rows.insert(name, Found::Head(key.to_vec(), head));
        }
        true
    })?;
    Ok(is_cut)
}
