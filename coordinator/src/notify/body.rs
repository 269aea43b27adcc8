//! What each service is sent, by its published format. Each has its own way of giving a meaning to letters; what nodes wrote has
//! them taken away.

use orangery_wire::UnixTime;
use serde_json::{Value, json};

use super::Severity;
use super::message::{Message, NOTICES_MAX, cut};
use super::template::Template;

/// The version of the body of webhooks.
const FORMAT: u32 = 1;
/// Characters of a header block and of a section's text
/// (<https://docs.slack.dev/reference/block-kit/blocks/header-block>, <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>).
const SLACK_HEADER_MAX: usize = 150;
const SLACK_TEXT_MAX: usize = 3_000;
/// Characters of a message (<https://discord.com/developers/docs/resources/webhook#execute-webhook>).
const DISCORD_MAX: usize = 2_000;
/// No previews of links (<https://discord.com/developers/docs/resources/message#message-object-message-flags>).
const DISCORD_SUPPRESS_EMBEDS: u32 = 1 << 2;
/// Bytes of a message; a longer one becomes a file (<https://docs.ntfy.sh/publish/#limitations>). Titles are kept short.
const NTFY_MESSAGE_MAX: usize = 4_000;
const NTFY_TITLE_MAX: usize = 200;

/// JSON for programs: docs/operating/notifications.md describes it.
pub(super) fn webhook(message: &Message, target: &str, coordinator: &str, sent_at: UnixTime) -> Value {
    let notices: Vec<Value> = message
        .notices
        .iter()
        .map(|notice| {
            let mut body = serde_json::to_value(notice).unwrap_or_default();
            if let Some(body) = body.as_object_mut() {
                body.insert("id".to_owned(), json!(notice.id));
                body.insert("at".to_owned(), json!(notice.at));
                body.insert("title".to_owned(), json!(notice.title()));
            }
            body
        })
        .collect();
    json!({
        "format": FORMAT,
        "id": message.id,
        "target": target,
        "coordinator": coordinator,
        "sent_at": sent_at,
        "title": message.title(),
        "severity": message.severity,
        "total": message.total(),
        "more": message.total().saturating_sub(NOTICES_MAX as u64),
        "counts": message.counts,
        "notices": notices,
    })
}

/// A header that nobody can write into, and a section. In Slack's text `&`, `<` and `>` alone give a meaning to what follows
/// (<https://docs.slack.dev/messaging/formatting-message-text#escaping>); `verbatim` keeps it from finding names and links by itself.
pub(super) fn slack(message: &Message, template: Option<&Template>) -> Value {
    let title = message.title();
    let text = match (template, message.only()) {
        (Some(template), Some(only)) => template.fill(only, slack_escape),
        _ => message.text(slack_escape),
    };
    let text = cut_escaped(&text, SLACK_TEXT_MAX);
    let mark = match message.severity {
        Severity::Info => "ℹ️",
        Severity::Warning => "⚠️",
        Severity::Error => "🛑",
    };
    let header = cut(&format!("{mark} {title}"), SLACK_HEADER_MAX, char::len_utf16);
    let mut blocks = vec![json!({ "type": "header", "text": { "type": "plain_text", "text": header } })];
    if !text.is_empty() {
        blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } }));
    }
    // What phones show; a section's text alone would be read out for those who see no blocks.
    json!({ "text": slack_escape(&header), "blocks": blocks })
}

fn slack_escape(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        // What would begin bold, italic, struck or preformatted text is shown by a letter that looks alike.
        '*' => "∗".to_owned(),
        '_' => "＿".to_owned(),
        '~' => "∼".to_owned(),
        '`' => "ˋ".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Cuts without leaving half of an `&amp;`.
fn cut_escaped(text: &str, max: usize) -> String {
    let short = cut(text, max, char::len_utf16);
    match short.rfind('&') {
        Some(at) if short.len() < text.len() && !short.get(at..).is_some_and(|end| end.contains(';')) => {
            short.get(..at).unwrap_or_default().to_owned() + "…"
        }
        _ => short,
    }
}

/// Nobody is mentioned, whatever is in the text: `allowed_mentions`
/// (<https://discord.com/developers/docs/resources/message#allowed-mentions-object>).
pub(super) fn discord(message: &Message, template: Option<&Template>) -> Value {
    let own = || {
        let (title, text) = (discord_escape(&message.title()), message.text(discord_escape));
        if text.is_empty() { format!("**{title}**") } else { format!("**{title}**\n{text}") }
    };
    let text = match (template, message.only()) {
        (Some(template), Some(only)) => template.fill(only, discord_escape),
        _ => own(),
    };
    json!({
        "content": cut(&text, DISCORD_MAX, char::len_utf16),
        "allowed_mentions": { "parse": [] },
        "flags": DISCORD_SUPPRESS_EMBEDS,
    })
}

fn discord_escape(text: &str) -> String {
    let special = |c: char| "\\*_~`|>#-[]()<@:".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// JSON to the server's root, so that nothing stands in headers (<https://docs.ntfy.sh/publish/#publish-as-json>). Its text is plain.
pub(super) fn ntfy(message: &Message, topic: &str, template: Option<&Template>) -> Value {
    let text = match (template, message.only()) {
        (Some(template), Some(only)) => template.fill(only, str::to_owned),
        _ => message.text(str::to_owned),
    };
    let (priority, tag) = match message.severity {
        Severity::Info => (3, "information_source"),
        Severity::Warning => (4, "warning"),
        Severity::Error => (5, "rotating_light"),
    };
    let text = if text.is_empty() { message.title() } else { text };
    json!({
        "topic": topic,
        "title": cut(&message.title(), NTFY_TITLE_MAX, char::len_utf8),
        "message": cut(&text, NTFY_MESSAGE_MAX, char::len_utf8),
        "priority": priority,
        "tags": [tag],
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Notice};
    use super::*;

    const HOSTILE: &str = "<!channel> @everyone <@U1> [x](http://evil) *b* `c` &amp; \r\nBcc: a@b";

    fn message(text: &str) -> Message {
        let mut notice = Notice::new(Kind::ReleaseRefused, text);
        (notice.id, notice.node) = (7, Some("attic".parse().unwrap()));
        Message::single(notice)
    }

    fn storm(text: &str) -> Message {
        let notices = (0..10).map(|_| message(text).notices.remove(0)).collect();
        let counts = [(Kind::ReleaseRefused, 1_000)].into();
        Message { id: "1-1000".into(), notices, counts, severity: Severity::Error }
    }

    #[test]
    fn slack_gets_nothing_that_it_would_act_upon_and_no_more_than_it_takes() {
        for message in [message(HOSTILE), storm(HOSTILE), storm(&"&<>".repeat(10_000))] {
            let body = slack(&message, None);
            let section = body["blocks"][1]["text"]["text"].as_str().unwrap();
            assert!(!section.contains(['<', '>', '*', '`']), "{section}");
            assert!(section.encode_utf16().count() <= SLACK_TEXT_MAX);
            let whole = |part: &str| ["amp;", "lt;", "gt;"].iter().any(|escape| part.starts_with(escape));
            assert!(section.split('&').skip(1).all(whole), "{section}");
            assert!(body["blocks"][0]["text"]["text"].as_str().unwrap().encode_utf16().count() <= SLACK_HEADER_MAX);
            assert_eq!(body["blocks"][0]["text"]["type"], "plain_text");
        }
    }

    #[test]
    fn an_operators_own_words_keep_their_meaning_and_a_nodes_do_not() {
        let template = Template::parse("<!here> {text}").unwrap();
        let body = slack(&message("<!channel>"), Some(&template));
        assert_eq!(body["blocks"][1]["text"]["text"], "<!here> &lt;!channel&gt;");
    }

    #[test]
    fn discord_mentions_nobody_and_gets_no_more_than_it_takes() {
        for message in [message(HOSTILE), storm(HOSTILE), storm(&"*".repeat(100_000))] {
            let body = discord(&message, None);
            let content = body["content"].as_str().unwrap();
            assert!(content.encode_utf16().count() <= DISCORD_MAX);
            assert!(
                !content.contains(" @everyone") && !content.contains("](") && !content.contains(" <@"),
                "{content}"
            );
            assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
        }
    }

    #[test]
    fn ntfy_gets_json_of_the_documented_fields_and_no_more_than_it_takes() {
        let body = ntfy(&storm(&"ä".repeat(100_000)), "fleet", None);
        let known = ["topic", "message", "title", "tags", "priority"];
        assert!(body.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{body}");
        assert!(body["message"].as_str().unwrap().len() <= 4_096);
        assert_eq!((&body["topic"], &body["priority"]), (&json!("fleet"), &json!(5)));
    }

    #[test]
    fn a_program_gets_what_happened_in_fields() {
        let body = webhook(&message("status 500"), "ops", "https://nas:8443", 9);
        assert_eq!(body["notices"][0]["kind"], "release_refused");
        assert_eq!((&body["id"], &body["total"], &body["more"]), (&json!("7"), &json!(1), &json!(0)));
        assert_eq!(webhook(&storm("x"), "ops", "u", 9)["more"], 900);
    }
}
