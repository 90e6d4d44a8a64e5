//! Puts that are under way when partitions get other owners.
//!
//! What was acknowledged by the old owners says nothing about the new: a put counts from zero, with the same dot, under a number
//! that no late answer knows. One that has written nothing begins anew, since even where it is to be kept may be another place.

use gramme_plant::planted;
use gramme_ring::PartitionId;
use gramme_wire::peer::{self, Class};

use super::{Around, Asked, Coordinator, Put, send_writes};
use crate::shard::{Brought, Writer};
use crate::timers::Timer;

impl Coordinator {
    /// Begins a put anew of which nothing has been written: where it is to be kept may be another place now.
    fn begin_again(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(put) = self.puts.remove(&id) else { return };
        around.cx.timers.cancel(put.deadline, Timer::Put(id));
        let Put { identity, place, read, content, expiry, touched, return_body, asked, deadline, .. } = put;
        let Asked { w, pw, dw, sloppy } = asked;
        let timeout = (deadline.saturating_sub(around.cx.now.monotonic) / 1_000) as u32;
        let key = place.key.clone();
        let put = peer::Put { key, read, content, expiry, touched, w, pw, dw, timeout, return_body, sloppy };
        let place = around.node.map.place(place.key);
        match self.may_coordinate(around, &place, &put) {
            Ok(()) => self.start_put(around, identity, place, put),
            // Whoever handed it to this node hands it to another: it must not come back to where it is waited for.
            Err(error) if identity.origin != around.cx.me().0 => {
                self.conclude(around.cx, identity, Err(error));
            }
            Err(_) => self.start_forward(around, identity, place, put),
        }
    }

    /// Partitions have other owners: puts of their keys begin again, with the same dots and under numbers that no late answer
    /// knows. What was acknowledged by the old owners says nothing about the new.
    pub(in crate::coordinator) fn on_put_layout(&mut self, around: &mut Around<'_>, changed: &[PartitionId]) {
        let is_changed = |put: &Put| changed.binary_search(&put.place.partition).is_ok();
        let of_changed: Vec<u64> =
            self.puts.iter().filter(|(_, put)| is_changed(put)).map(|(id, _)| *id).collect();
        for old in of_changed {
            if planted!(CarryAcks) {
                continue;
            }
            let is_over =
                self.puts.get(&old).is_none_or(|put| put.counted.is_answered() && put.receipt.is_none());
            match self.puts.get(&old) {
                Some(put) if put.write.is_none() && !is_over => self.begin_again(around, old),
                _ => self.restart_put(around, old, is_over),
            }
        }
    }

    fn restart_put(&mut self, around: &mut Around<'_>, old: u64, is_over: bool) {
        let Some(mut put) = self.puts.remove(&old) else { return };
        around.cx.timers.cancel(put.deadline, Timer::Put(old));
        if is_over {
            return;
        }
        around.cx.stats.puts_restarted += 1;
        let id = around.cx.next_request();
        around.cx.timers.set(put.deadline, Timer::Put(id));
        if !put.counted.is_answered() {
            recount(around, &mut put);
            restart(around, id, &mut put);
        } else if let Some(kept) = &mut put.write {
            // Its quorum is there; only this node's own copy is waited for, under the old number.
            kept.is_stored = true;
        }
        self.puts.insert(id, put);
        self.answer_put(around.cx, id);
        self.fill_put_seats(around, id);
    }
}

/// Counts from zero over the owners that there are now.
fn recount(around: &mut Around<'_>, put: &mut Put) {
    put.counted.restart(&around.node.map.write_sets(put.place.partition, put.need));
    put.take_seats(around);
}

/// The same dot goes to the owners that there are now; this node, if it is one or stands in for one, keeps it as that.
fn restart(around: &mut Around<'_>, id: u64, put: &mut Put) {
    let Around { cx, node, shard } = around;
    send_writes(cx, node, id, put);
    let (me, key) = (cx.me(), put.place.key.clone());
    let awaits = put.counted.awaits(me);
    let Some(kept) = put.write.as_mut() else { return };
    if !awaits {
        // What it has of it is counted no more, and not waited for.
        kept.is_stored = true;
        return;
    }
    let data = node.map.place(key);
    let seat = put.counted.seat_of(me).unwrap_or_default();
    let place = if shard.owns(data.partition) { Some(data) } else { node.map.hint_place(&data, seat) };
    if let Some(place) = place {
        kept.is_stored = false;
        let brought = Brought { object: (*kept.state).clone(), stored: kept.state.encode().into() };
        shard.merge(cx, &place, brought, Writer::Put(id), (put.levels.own, Class::Foreground));
        put.place = place;
    }
}
