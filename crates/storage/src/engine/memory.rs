//! A map in memory.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use super::{Engine, EngineError, EngineOp};

/// An ordered map behind a lock. Nothing of it outlives the process.
#[derive(Debug, Default)]
pub(crate) struct MemoryEngine {
    rows: RwLock<BTreeMap<Vec<u8>, Bytes>>,
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn apply(&self, ops: Vec<EngineOp>) -> Result<(), EngineError> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for op in ops {
            match op {
                EngineOp::Put(key, value) => rows.insert(key, value.into()),
                EngineOp::Remove(key) => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), EngineError> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let rows = rows.range(from.to_vec()..);
        for (key, value) in rows.take_while(|(key, _)| to.is_none_or(|to| key.as_slice() < to)) {
            if !visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        false
    }
}
