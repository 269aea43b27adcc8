//! Time passes for rollouts.

use std::time::{Duration, Instant};

use crate::engine::Engine;

/// Time between two looks at rollouts.
const LOOK_EACH: Duration = Duration::from_secs(1);

/// Looks at rollouts each second, or less often in a fleet so large that this takes long: at most a twentieth of the time.
pub(super) async fn look(engine: Engine) {
    loop {
        let begun = Instant::now();
        if let Err(refused) = engine.look_at_rollouts().await {
            tracing::warn!(reason = %refused, "rollouts were not looked at");
        }
        tokio::time::sleep(LOOK_EACH.max(begun.elapsed() * 20)).await;
    }
}
