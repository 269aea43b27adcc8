//! Scenarios as text. Each line of `scripts/NAME.txt` is a command; `scripts/NAME.out` is what came of it.

use std::path::{Path, PathBuf};

use orangery_wire::rest::{DeedRequest, OnFailure, RolloutPolicy, RolloutRequest};

use crate::center::Hold;
use crate::faults;
use crate::kinds::Options;
use crate::node::{Fate, app, release};
use crate::windows::Round;
use crate::world::World;

/// Lives through every script and compares, or, with `RECORD` in the environment, records.
pub fn check_all() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rollouts/scripts"));
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        let said = play(&std::fs::read_to_string(&script).unwrap());
        let recorded = script.with_extension("out");
        if std::env::var_os("RECORD").is_some() {
            std::fs::write(&recorded, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&recorded).unwrap_or_default();
        assert_eq!(said, expected, "{}: RECORD=1 records it anew", script.display());
    }
}

/// What came of a script.
fn play(script: &str) -> String {
    let mut stage = Stage {
        world: World::new(Options { nodes: 4, loss_percent: 0, ..Options::of(1) }),
        told: 0,
        said: String::new(),
    };
    for line in script.lines() {
        stage.said += line;
        stage.said += "\n";
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Err(error) = stage.act(&words) {
            stage.say(&format!("refused: {error}"));
        }
        stage.tell_news();
        assert_eq!(stage.world.laws.broken, None, "{line}");
    }
    stage.said
}

struct Stage {
    world: World,
    told: usize,
    said: String,
}

impl Stage {
    fn say(&mut self, text: &str) {
        self.said += "    ";
        self.said += text;
        self.said += "\n";
    }

    fn tell_news(&mut self) {
        let history = self.world.center.history();
        history.iter().skip(self.told).for_each(|line| self.say(line));
        self.told = history.len();
    }

    fn act(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["fleet", count] => {
                let nodes = count.parse().unwrap();
                self.world = World::new(Options { nodes, loss_percent: 0, ..Options::of(1) });
            }
            ["fate", version, who, fate @ ..] => self.fate(version, who, fate),
            ["start", version, options @ ..] => self.start(version, options)?,
            ["run", secs] => self.world.run_until(self.world.now + secs.parse::<u64>().unwrap()),
            ["rest"] => self.rest(),
            ["hold", node, secs, reason @ ..] => {
                let until = self.world.now + secs.parse::<u64>().unwrap();
                self.known(node).hold = Some(Hold { reason: reason.join(" "), until });
            }
            ["release", node] => self.known(node).hold = None,
            ["window", node, every, from, secs] => {
                let number = |text: &str| text.parse().unwrap();
                let round = Round { every: number(every), from: number(from), secs: number(secs) };
                self.known(node).rounds.push(round);
            }
            ["absent", node] => self.known(node).joined = false,
            ["join", node] => self.known(node).joined = true,
            ["unlink", node] => self.link(node, false),
            ["link", node] => self.link(node, true),
            ["kill-coordinator"] => self.world.kill(),
            ["clock", secs] => self.world.center.clock_off += secs.parse::<i64>().unwrap(),
            ["deploy", version, node] => self.deploy(version, node),
            ["why", node] => self.why(node),
            ["show"] => self.show(),
            [deed, id] => drop(self.world.deed(id.parse().unwrap(), deed, None)?),
            [deed, id, note @ ..] => drop(self.world.deed(id.parse().unwrap(), deed, Some(&note.join(" ")))?),
            other => panic!("no command: {other:?}"),
        }
        Ok(())
    }

    fn known(&mut self, node: &str) -> &mut crate::center::Known {
        self.world.center.known.get_mut(&node.parse().unwrap()).unwrap()
    }

    fn link(&mut self, node: &str, is_linked: bool) {
        let k = self.world.names[&node.parse().unwrap()];
        self.world.link(k, is_linked);
    }

    fn rest(&mut self) {
        let end = self.world.now + 20_000;
        while !faults::is_at_rest(&self.world) {
            assert!(self.world.now < end, "{}", faults::unrest(&self.world));
            self.world.run_until(self.world.now + 60);
        }
    }

    fn fate(&mut self, version: &str, who: &str, fate: &[&str]) {
        let number: usize = version.parse().unwrap();
        let fate = match fate {
            ["unhealthy"] => Fate::Unhealthy,
            ["wont-start"] => Fate::WontStart,
            ["unverified"] => Fate::Unverified,
            ["crash-loop"] => Fate::CrashLoop,
            ["stuck"] => Fate::Stuck,
            ["heavy"] => Fate::Heavy,
            ["slow"] => Fate::Slow,
            ["restless"] => Fate::Restless,
            ["sours", secs] => Fate::Sours(secs.parse().unwrap()),
            ["dies", secs] => Fate::Dies(secs.parse().unwrap()),
            other => panic!("no fate: {other:?}"),
        };
        for node in self.world.nodes.iter_mut().filter(|node| who == "all" || node.name.as_str() == who) {
            node.fates[number] = fate;
        }
    }

    fn start(&mut self, version: &str, options: &[&str]) -> Result<(), String> {
        let number = version.parse().unwrap();
        let mut request = RolloutRequest {
            app: app(),
            version: release(number).version,
            to: vec!["all".into()],
            canaries: vec![],
            waves: vec![],
            policy: RolloutPolicy { soak_secs: vec![120], ..RolloutPolicy::default() },
            deed: DeedRequest::default(),
            plan: None,
            ignore_windows: false,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let value = if *option == "--approve-between" { "" } else { options.next().unwrap() };
            set(&mut request, option, value)?;
        }
        self.world.center.begin(self.world.now, &request, number, true)?;
        Ok(())
    }

    /// Somebody deploys past all rollouts.
    fn deploy(&mut self, version: &str, node: &str) {
        let release = Some(release(version.parse().unwrap()));
        let known = self.known(node);
        known.generation += 1;
        let generation = known.generation;
        known.desired = Some(orangery_wire::messages::DesiredApp { app: app(), generation, release });
        self.world.publish(self.world.names[&node.parse().unwrap()]);
    }

    fn why(&mut self, node: &str) {
        let name = node.parse().unwrap();
        for id in self.world.center.active() {
            let (_, planned) = self.world.center.plan(self.world.now, id);
            let text = planned.waiting.get(&name).map_or_else(
                || format!("{node} does not wait in rollout {id}"),
                |waiting| format!("{node} {} [{}]", waiting.text, waiting.code),
            );
            self.say(&text);
        }
    }

    fn show(&mut self) {
        for id in self.world.center.rollouts.keys().copied().collect::<Vec<_>>() {
            let rollout = self.world.center.rollouts[&id].clone();
            let scene = self.world.center.scene(self.world.now, id, &rollout.to);
            let head = format!(
                "rollout {id} of {}: {}: {}",
                rollout.release.version,
                rollout.status.as_str(),
                rollout.reason(&scene)
            );
            self.say(&head);
            let places = rollout.places(&scene);
            for wave in 0..rollout.waves.len() {
                let place = |node: &orangery_wire::NodeId| places.get(node).map_or("absent", |place| place.code);
                let nodes: Vec<String> =
                    rollout.members(wave).map(|(node, _)| format!("{node} {}", place(node))).collect();
                let trailing = if rollout.waves[wave].trailing { " (late)" } else { "" };
                self.say(&format!("  wave {}{trailing}: {}", wave + 1, nodes.join(", ")));
            }
        }
        let node = |node: &crate::node::Node| {
            let version = |id: Option<orangery_wire::ReleaseId>| {
                id.map_or_else(|| "nothing".to_owned(), |id| release(crate::node::number(&id)).version.to_string())
            };
            format!("{} runs {}", node.name, version(node.running))
        };
        let nodes: Vec<String> = self.world.nodes.iter().map(node).collect();
        self.say(&nodes.join(", "));
    }
}

fn set(request: &mut RolloutRequest, option: &str, value: &str) -> Result<(), String> {
    let words = || value.split(',');
    let policy = &mut request.policy;
    match option {
        "--to" => request.to = words().map(str::to_owned).collect(),
        "--canary" => request.canaries = words().map(|name| name.parse().unwrap()).collect(),
        "--waves" => request.waves = words().map(str::parse).collect::<Result<_, _>>()?,
        "--soak" => policy.soak_secs = words().map(|secs| secs.parse().unwrap()).collect(),
        "--failures" => policy.failures = words().map(str::parse).collect::<Result<_, _>>()?,
        "--on-failure" if value == "revert" => policy.on_failure = OnFailure::Revert,
        "--approve-between" => policy.approve_between = true,
        "--compare" => policy.compare = Some(value.parse::<orangery::span::Limits>()?.0),
        "--start" => policy.start.secs = value.parse().unwrap(),
        "--progress" => policy.progress.secs = value.parse().unwrap(),
        other => panic!("no option: {other}"),
    }
    Ok(())
}
