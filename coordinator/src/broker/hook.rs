//! The gate inside rmqtt: who is let in, and which topics it may use. The rule itself is in [`orangery_wire::topics`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::topics::{PREFIX, may_publish, may_subscribe};
use rmqtt::codec::v5::SubscribeAckReason;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ConnectInfo, From as Origin, FromType, Id, LastWill, Publish, PublishAclResult, Subscribe,
    SubscribeAclResult,
};

use super::denials::{Denials, excerpt};
use super::tunnels::{End, Refused, Tunnels};

/// Longest wait for the end of a client's old session.
const OLD_SESSION_MAX: Duration = Duration::from_secs(2);
/// How often it is looked for. rmqtt has no word for "gone".
const OLD_SESSION_LOOK: Duration = Duration::from_millis(2);

/// The gate.
#[derive(Debug, Clone)]
pub struct Gate {
    tunnels: Arc<Tunnels>,
    denials: Arc<Denials>,
    /// rmqtt, which holds the gate in turn: emptied by [`Gate::remove`].
    context: Arc<Mutex<Option<ServerContext>>>,
}

impl Gate {
    /// A gate that lets in whom `tunnels` knows and counts in `denials` whom it does not.
    pub fn new(tunnels: Arc<Tunnels>, denials: Arc<Denials>) -> Self {
        Self { tunnels, denials, context: Arc::default() }
    }

    /// Puts the gate in place. Must be done before rmqtt listens: without it everything is allowed.
    pub async fn install(&self, context: &ServerContext) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.clone());
        let register = context.extends.hook_mgr().register();
        for point in [
            Type::ClientAuthenticate,
            Type::ClientSubscribeCheckAcl,
            Type::MessagePublishCheckAcl,
            Type::MessagePublish,
        ] {
            register.add(point, Box::new(self.clone())).await;
        }
        register.start().await;
    }

    /// Lets go of rmqtt, when it has stopped.
    pub fn remove(&self) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn authenticate(&self, connect: &ConnectInfo) -> AuthResult {
        let id = connect.id();
        let client: &str = &id.client_id;
        let will = connect.last_will().map(|will| will_topic(&will));
        if let Some(topic) = will.filter(|topic| !may_publish(client, topic)) {
            self.denied(end(id), client, "will", topic);
            return AuthResult::NotAuthorized;
        }
        match self.tunnels.connect(end(id), client) {
            Ok(()) => {
                self.old_session_gone(id).await;
                AuthResult::Allow(false, None)
            }
            Err(refused) => {
                self.refused(end(id), client, refused);
                AuthResult::NotAuthorized
            }
        }
    }

    /// Waits until the client's old session, whose tunnel has been cut, has ended. Left to itself rmqtt asks the old one to
    /// leave, and if that is leaving already and does not hear, refuses the new one ("service unavailable").
    async fn old_session_gone(&self, id: &Id) {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(context) = context else { return };
        let gone = async {
            while context.extends.shared().await.entry(id.clone()).exist() {
                tokio::time::sleep(OLD_SESSION_LOOK).await;
            }
        };
        if tokio::time::timeout(OLD_SESSION_MAX, gone).await.is_err() {
            tracing::debug!(node = %id.client_id, "an old session lingers");
        }
    }

    fn subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let client: &str = &session.id.client_id;
        if may_subscribe(client, &subscribe.topic_filter) {
            return SubscribeAclResult::new_success(subscribe.opts.qos(), None);
        }
        self.denied(end(&session.id), client, "subscribe", &subscribe.topic_filter);
        SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
    }

    /// A refusal ends the connection: MQTT 3.1.1 has no other way to say no to a PUBLISH (section 3.3.5), and a client
    /// that goes on as if it had been heard helps nobody.
    fn publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        let client: &str = &session.id.client_id;
        if !may_publish(client, &publish.topic) {
            self.denied(end(&session.id), client, "publish", &publish.topic);
            return PublishAclResult::rejected(true, None);
        }
        if publish.payload.len() > PACKET_BYTES_MAX {
            self.denied(end(&session.id), client, "publish more bytes than allowed", &publish.topic);
            return PublishAclResult::rejected(true, None);
        }
        PublishAclResult::allow()
    }

    /// The will of a connection whose client is back already would say "offline" after the client's own "online": it is
    /// led to a topic that nobody can subscribe to, because rmqtt has no way to drop it.
    fn redirect_stale_will(&self, from: &Origin, publish: &Publish) -> Option<Publish> {
        let is_will = matches!(from.typ(), FromType::LastWill);
        if !is_will || !self.tunnels.is_superseded(end(&from.id), &from.id.client_id) {
            return None;
        }
        let mut nowhere = publish.clone();
        nowhere.topic = format!("{PREFIX}superseded").into();
        nowhere.retain = false;
        Some(nowhere)
    }

    fn denied(&self, end: Option<End>, client: &str, deed: &str, topic: &str) {
        let Some(unlogged) = self.denials.note() else { return };
        let (name, peer) = self.describe(end);
        let (client, topic) = (excerpt(client), excerpt(topic));
        tracing::warn!(node = name, ?peer, ?client, deed, ?topic, unlogged, "denied by the broker");
    }

    fn refused(&self, end: Option<End>, client: &str, refused: Refused) {
        let Some(unlogged) = self.denials.note() else { return };
        let (name, peer) = self.describe(end);
        let client = excerpt(client);
        tracing::warn!(node = name, ?peer, ?client, reason = %refused, unlogged, "refused by the broker");
    }

    fn describe(&self, end: Option<End>) -> (String, Option<SocketAddr>) {
        let known = self.tunnels.describe(end);
        known.map_or_else(|| (String::new(), end.map(|end| end.address)), |(name, peer)| (name.to_string(), Some(peer)))
    }
}

/// The terminator's end of a client's connection.
fn end(id: &Id) -> Option<End> {
    Some(End { listener: id.lid, address: id.remote_addr? })
}

fn will_topic<'a>(will: &LastWill<'a>) -> &'a str {
    match will {
        LastWill::V3(will) => &will.topic,
        LastWill::V5(will) => &will.topic,
    }
}

#[async_trait]
impl Handler for Gate {
    async fn hook(&self, parameter: &Parameter, result: Option<HookResult>) -> ReturnType {
        let verdict = match parameter {
            Parameter::ClientAuthenticate(connect) => HookResult::AuthResult(self.authenticate(connect).await),
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                HookResult::SubscribeAclResult(self.subscribe(session, subscribe))
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                HookResult::PublishAclResult(self.publish(session, publish))
            }
            Parameter::MessagePublish(_, from, publish) => match self.redirect_stale_will(from, publish) {
                Some(nowhere) => HookResult::Publish(nowhere),
                None => return (true, result),
            },
            _ => return (true, result),
        };
        (false, Some(verdict))
    }
}
