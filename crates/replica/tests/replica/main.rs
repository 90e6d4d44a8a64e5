//! One replica, its inputs handed over one by one, its commits held back until the test lets them through.

mod amnesia;
mod bench;
mod bounds;
mod closing;
mod contexts;
mod exchanges;
mod expiry;
mod hints;
mod layouts;
mod listing;
mod pace;
mod peers;
mod plans;
mod proof;
mod properties;
mod puts;
mod reclaim;
mod scrub;
mod values;
