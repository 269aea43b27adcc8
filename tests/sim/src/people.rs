//! People: they deploy, change their minds, stop apps, roll back at a node, revoke.
//!
//! A wish is one function here; a planner of rollouts would be one more.

use orangery::engine::{Command, Survey};
use orangery_agent::control::{Reply, Request};
use orangery_agent::driver::Event;
use orangery_wire::messages::RefusalCode;
use orangery_wire::rest::{DeedRequest, DeployRequest};
use orangery_wire::{AppName, Version};
use tokio::sync::oneshot;

use crate::trace::Line;
use crate::world::{Due, HOUR, MINUTE, World};

impl World {
    pub(crate) fn people(&mut self) {
        let again = match self.random.below(100) {
            // They change their minds before it is done.
            0..30 => self.random.between(MINUTE / 2, 10 * MINUTE),
            // Few boards have livelier people: in a small world as much is to happen in a week as in a large one in a month.
            _ if self.nodes.len() < 100 => self.random.between(HOUR / 4, 4 * HOUR),
            _ => self.random.between(2 * HOUR, 8 * HOUR),
        };
        self.later(again, Due::People);
        if self.now > self.options.rough_ends_at() && self.options.faults_percent > 0 {
            return;
        }
        self.counts.wishes += 1;
        let apps = self.catalogue.apps();
        let Some(app) = self.random.pick(&apps).cloned() else { return };
        match self.random.below(100) {
            0..70 => self.deploy_any(&app),
            70..78 => self.deploy_first(&app),
            78..84 => self.stop(&app),
            84..99 => self.roll_back(&app),
            _ => self.revoke(),
        }
    }

    fn somewhere(&mut self) -> String {
        match self.random.below(10) {
            0..2 => "all".to_owned(),
            2..6 => format!("site=s{}", self.random.below(7)),
            _ => format!("n{}", self.random.below(self.nodes.len() as u64)),
        }
    }

    fn deploy_any(&mut self, app: &AppName) {
        let version = self.catalogue.any(app, &mut self.random).map(|release| release.reference.version.clone());
        let to = self.somewhere();
        self.deploy(app, version, to);
    }

    fn deploy_first(&mut self, app: &AppName) {
        let version = self.catalogue.first(app).map(|release| release.reference.version.clone());
        self.deploy(app, version, "all".to_owned());
    }

    fn stop(&mut self, app: &AppName) {
        let to = self.somewhere();
        self.deploy(app, None, to);
    }

    /// Some look at the plan first; it may have changed when they apply it.
    fn deploy(&mut self, app: &AppName, version: Option<Version>, to: String) {
        let mut request = DeployRequest { app: app.clone(), version, to, plan: None, deed: DeedRequest::default() };
        if let (true, Some(live)) = (self.random.percent(30), &self.coordinator.live) {
            let survey = Survey::read(self.coordinator.keeper.view(), app);
            let plan = survey.ok().and_then(|survey| survey.plan(&request, live).ok());
            request.plan = plan.map(|plan| plan.mark);
        }
        self.note(Line::NOWHERE, "deploy", u64::from(request.version.is_some()), u64::from(request.plan.is_some()));
        self.command(Command::Deploy(request, oneshot::channel().0), None);
    }

    /// Somebody at a node wants what was there before.
    fn roll_back(&mut self, app: &AppName) {
        let n = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap_or(0);
        if self.nodes[n].driver.is_none() {
            return;
        }
        let current = self.record_of(n, app).current;
        let (reply, mut answer) = oneshot::channel();
        if let Some(current) = current {
            self.nodes[n].ghosts.may_be_refused(app, current, RefusalCode::RolledBack);
        }
        let request = Request::Rollback { app: app.clone() };
        self.drive(n, |driver| driver.take(Event::Control(request, reply)));
        let done = matches!(answer.try_recv(), Ok(Reply::Done(_)));
        self.note(n, "roll back", u64::from(done), 0);
    }

    /// At most one node in fifty.
    fn revoke(&mut self) {
        let n = self.random.below(self.nodes.len() as u64);
        if !n.is_multiple_of(50) {
            return;
        }
        self.note(Line::NOWHERE, "revoke", n, 0);
        if let Ok(node) = format!("n{n}").parse() {
            self.command(Command::Revoke(node, oneshot::channel().0), None);
        }
    }
}
