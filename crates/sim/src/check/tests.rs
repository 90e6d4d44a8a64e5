use super::*;
use crate::history::{Damage, Fate, KeyRecord, ReadRecord, WriteRecord};
