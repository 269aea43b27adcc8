//! Retained messages, in memory. rmqtt has the tree but leaves it switched off; this switches it on.
//!
//! It needs no bound of its own: the topics that [`orangery_wire::topics`] allows are six for each node.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::types::{Retain, TopicFilter, TopicName};

/// The store of retained messages. They never expire: they are state.
#[derive(Default)]
pub struct Retained(DefaultRetainStorage);

#[async_trait]
impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    fn need_sync(&self) -> bool {
        false
    }

    async fn set(&self, topic: &TopicName, retain: Retain, _: Option<Duration>) -> rmqtt::Result<()> {
        self.0.set_with_timeout(topic, apart(retain), None).await
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        self.0.get_message(filter).await
    }

    async fn count(&self) -> isize {
        self.0.count().await
    }

    async fn max(&self) -> isize {
        self.0.max().await
    }
}

/// The same message in memory of its own: as it came it is a part of its connection's read buffer, 8 KiB that could not be used
/// again as long as the message is kept.
fn apart(mut retain: Retain) -> Retain {
    let publish = &mut retain.publish.inner;
    publish.payload = Bytes::copy_from_slice(&publish.payload);
    publish.topic = TopicName::from(&*publish.topic);
    retain
}
