//! Connects, polls one connection until it ends, and connects again.

use std::sync::Arc;
use std::time::Duration;

use orangery_wire::limits::PACKET_BYTES_MAX;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, SubAck,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ended::Ended;
use super::network::Changes;
use super::outbound::CLIENT_ROOM;
use super::reach::{Sent, Trouble};
use super::{INCOMING_BYTES_MAX, LinkEvent, Shared, broker_address};
use crate::backoff;

/// The first pause, on average half of it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What a PUBLISH has besides its payload: header, topic and packet id.
const PACKET_OVERHEAD_BYTES: usize = 1024;

/// Keeps the node connected until told to stop.
pub(super) async fn keep(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let keepalive = shared.settings.keepalive();
    let mut lost_at = Instant::now();
    let mut failures = 0_u32;
    let mut logged = String::new();
    let mut anew = false;
    loop {
        let mut changes = Changes::listen();
        let (ended, held) = match connect(&shared, &mut stopped, lost_at, (!anew).then_some(&mut changes)).await {
            Err(ended) => (ended, Duration::ZERO),
            Ok(connection) => {
                drop(changes);
                let begun = Instant::now();
                let ended = connection.serve().await;
                changes = Changes::listen();
                (ended, begun.elapsed())
            }
        };
        shared.outbound().end();
        if shared.watchman.ended(Trouble { answers: ended.is_an_answer(), reason: ended.to_string() }) {
            lost_at = Instant::now();
        }
        if *stopped.borrow() {
            return;
        }
        anew = matches!(ended, Ended::Appeared);
        if anew {
            failures = 0;
            continue;
        }
        // A connection that held for a while was a good one; one that breaks off at once counts as another failure.
        failures = if held >= keepalive * 2 { 1 } else { failures.saturating_add(1) };
        let first = FIRST_PAUSE.min(shared.settings.backoff_max);
        let longest = shared.watchman.longest_pause(shared.settings.backoff_max);
        let pause = backoff::delay(failures, first, longest, backoff::random());
        announce(&shared, &ended, pause, &mut logged);
        if rest(&shared, &mut stopped, &mut changes, pause).await {
            // It may take some more attempts until all of it is there, and the whole site may have seen the same.
            failures = 0;
            sleep(backoff::delay(1, first, longest, backoff::random())).await;
        }
        if *stopped.borrow() {
            return;
        }
    }
}

/// Waits for `pause`, or less if the link is to stop, somebody begins to wait for it, or a network appears or did so during the
/// attempt before. Says whether it was the last.
async fn rest(shared: &Shared, stopped: &mut watch::Receiver<bool>, changes: &mut Changes, pause: Duration) -> bool {
    tokio::select! {
        () = sleep(pause) => false,
        () = shared.watchman.somebody_waits() => false,
        _ = stopped.wait_for(|stop| *stop) => false,
        () = changes.something_appears() => true,
    }
}

/// Tells why there is no connection. A node may be offline for weeks: the same reason again is not worth a line in its log.
fn announce(shared: &Shared, ended: &Ended, pause: Duration, logged: &mut String) {
    let (reason, pause_ms) = (ended.to_string(), pause.as_millis());
    if *logged == reason {
        tracing::debug!(node = %shared.settings.node, reason, pause_ms, "still not connected; will try again");
    } else {
        tracing::warn!(node = %shared.settings.node, reason, pause_ms, "not connected; will try again");
        logged.clone_from(&reason);
    }
    if matches!(ended, Ended::Certificate(_)) {
        (shared.tell)(LinkEvent::CertificateRefused);
    }
    (shared.tell)(LinkEvent::Down { reason });
}

/// Makes one connection with a client of its own. An attempt that looks at `changes` is given up for a network that appears; one
/// that was begun for such a network has all its time, whatever else appears.
async fn connect<'a>(
    shared: &'a Shared,
    stopped: &mut watch::Receiver<bool>,
    lost_at: Instant,
    changes: Option<&mut Changes>,
) -> Result<Connection<'a>, Ended> {
    let options = options(shared).ok_or_else(|| Ended::Address(shared.settings.mqtt.clone()))?;
    let patience = shared.settings.connect_timeout;
    let (client, mut polled) = AsyncClient::new(options, usize::from(CLIENT_ROOM));
    // The library counts in seconds; ours is the one that ends an attempt.
    // A message that waits for the one before it to be acknowledged waits 40 ms for nothing.
    polled.network_options.set_connection_timeout(patience.as_secs().saturating_add(1)).set_tcp_nodelay(true);
    let answer = tokio::select! {
        answer = timeout(patience, polled.poll()) => answer,
        // Packets that were lost before it appeared are sent again after seconds only; a new call is quicker.
        () = appeared(changes) => return Err(Ended::Appeared),
        _ = stopped.wait_for(|stop| *stop) => return Err(Ended::Stopped),
    };
    answer.map_err(|_| Ended::ConnectTimeout(patience))??;
    shared.outbound().begin(client);
    Ok(Connection { shared, polled, heard: Instant::now(), lost_at, sent: Sent::default(), subscribed: false })
}

/// A network has appeared, and a call that is under way has had its chance to get through.
async fn appeared(changes: Option<&mut Changes>) {
    let Some(changes) = changes else { return std::future::pending().await };
    changes.something_appears().await;
    sleep(FIRST_PAUSE).await;
}

fn options(shared: &Shared) -> Option<MqttOptions> {
    let settings = &shared.settings;
    let (host, port) = broker_address(&settings.mqtt)?;
    let mut options = MqttOptions::new(settings.node.as_str(), host, port);
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(&settings.tls))))
        .set_keep_alive(settings.keepalive())
        .set_clean_session(true)
        .set_inflight(CLIENT_ROOM)
        .set_max_packet_size(INCOMING_BYTES_MAX, PACKET_BYTES_MAX + PACKET_OVERHEAD_BYTES)
        .set_last_will(shared.outbound().will());
    Some(options)
}

/// A connection that the broker has accepted.
struct Connection<'a> {
    shared: &'a Shared,
    polled: EventLoop,
    /// When anything last came in.
    heard: Instant,
    /// When the connection before this one was lost.
    lost_at: Instant,
    sent: Sent,
    subscribed: bool,
}

impl Connection<'_> {
    /// Polls until the connection is over. [`EventLoop::poll`] must not be cut off and called again, so nothing else is
    /// awaited here, and a deadline that passes is the end.
    async fn serve(mut self) -> Ended {
        let begun = self.heard;
        loop {
            let (deadline, verdict) = self.deadline(begun);
            let event = match timeout_at(deadline, self.polled.poll()).await {
                Err(_) => return verdict,
                Ok(Err(error)) => return self.last_events(error),
                Ok(Ok(event)) => event,
            };
            if let Err(ended) = self.take(event) {
                return ended;
            }
            if self.shared.outbound().gave_up_waiting(self.shared.settings.resend_after) {
                (self.shared.tell)(LinkEvent::Resend);
            }
            self.shared.outbound().speak();
        }
    }

    /// The watchdog. The library has one of its own, but it sleeps while the library waits to write.
    fn deadline(&self, begun: Instant) -> (Instant, Ended) {
        let silence = self.shared.settings.keepalive() * 3;
        let patience = self.shared.settings.connect_timeout;
        // Somebody waits for an answer: a connection whose other end is gone must not keep the next one back.
        let hurried =
            self.sent.oldest().filter(|_| self.shared.watchman.is_hurried()).map(|sent_at| sent_at + patience);
        if let Some(due) = hurried.filter(|due| *due < self.heard + silence) {
            return (due, Ended::Unanswered(patience));
        }
        let (silent_at, overdue_at) = (self.heard + silence, begun + patience);
        if self.subscribed || silent_at < overdue_at {
            (silent_at, Ended::Silent(silence))
        } else {
            (overdue_at, Ended::SubscriptionTimeout(patience))
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Outgoing(Outgoing::Disconnect) => return Err(Ended::Stopped),
            Event::Outgoing(Outgoing::Publish(pkid)) => self.sent.publication(pkid),
            Event::Outgoing(_) => {}
            Event::Incoming(packet) => {
                self.heard = Instant::now();
                match packet {
                    Packet::Publish(publish) => self.received(publish),
                    Packet::SubAck(answer) => self.subscription_answered(&answer)?,
                    Packet::PubAck(answer) => {
                        if let Some(sent_at) = self.sent.acknowledged(answer.pkid) {
                            self.shared.watchman.answered(sent_at);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What came in the same read as the packet that broke the connection still counts; otherwise one broken retained
    /// message could keep back a good one at every connect.
    fn last_events(mut self, error: ConnectionError) -> Ended {
        while let Some(event) = self.polled.state.events.pop_front() {
            if let Err(ended) = self.take(event) {
                return ended;
            }
        }
        Ended::from(error)
    }

    /// There is one SUBSCRIBE in a connection, so any SUBACK answers it, whatever its packet id.
    fn subscription_answered(&mut self, answer: &SubAck) -> Result<(), Ended> {
        let agreed = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
        if answer.return_codes.len() != 2 || !answer.return_codes.iter().all(agreed) {
            return Err(Ended::SubscriptionRefused);
        }
        self.subscribed = true;
        self.shared.outbound().subscribed();
        self.shared.watchman.up(self.lost_at.elapsed());
        (self.shared.tell)(LinkEvent::Up);
        Ok(())
    }

    fn received(&self, publish: Publish) {
        let (desired, acked) = {
            let outbound = self.shared.outbound();
            (publish.topic == outbound.topics.desired, publish.topic == outbound.topics.acked)
        };
        let payload = Vec::from(publish.payload);
        match (desired, acked) {
            (true, _) => (self.shared.tell)(LinkEvent::Desired(payload)),
            (_, true) => (self.shared.tell)(LinkEvent::Acked(payload)),
            _ => tracing::warn!("dropped a message on a topic that was not subscribed to"),
        }
    }
}
