//! Metrics of an engine.

use std::fmt;
use std::sync::Arc;

use roomcast_core::ClusterMetric;

/// Function that returns the metrics of an engine. Default: one that returns none.
#[derive(Clone)]
pub struct EngineMetrics(Arc<dyn Fn() -> Vec<ClusterMetric> + Send + Sync>);

impl EngineMetrics {
    /// Wraps a function, which is called for each exposition, on any thread.
    pub fn new(metrics: impl Fn() -> Vec<ClusterMetric> + Send + Sync + 'static) -> Self {
        Self(Arc::new(metrics))
    }

    /// Returns the present metrics.
    #[must_use]
    pub fn collect(&self) -> Vec<ClusterMetric> {
        (self.0)()
    }
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self::new(Vec::new)
    }
}

impl fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineMetrics")
    }
}
