//! One trial at a time on a node: the others wait for their turn.

use orangery_wire::AppName;

use super::App;
use crate::driver::Driver;

/// What an app waits for whose release is here while another is on trial. For people.
pub(super) fn waits_for(other: &AppName) -> String {
    format!("it is here, and waits until the trial of {other} has ended")
}

impl Driver {
    /// When no app is on trial any more, the next one that waits for its turn goes on, and the others wait for that.
    pub(super) fn release_held(&mut self) {
        if self.apps.values().any(App::on_trial) {
            return;
        }
        let waiting = self.apps.iter_mut().find_map(|(name, app)| Some((name.clone(), app.held.take()?)));
        let Some((name, event)) = waiting else { return };
        self.step(&name, event);
        if self.apps.get(&name).is_some_and(App::on_trial) {
            for app in self.apps.values_mut().filter(|app| app.held.is_some()) {
                app.waits = Some(waits_for(&name));
            }
        }
    }
}
