//! Mail, as a server gets it.

use crate::fixture::eventually;
use crate::postbox::Postbox;
use crate::{HOSTILE, Place};

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_by_starttls_with_a_login_and_a_nodes_words_stay_in_its_text() {
    let place = Place::new();
    let postbox = Postbox::start(&place.ca).await;
    let more = format!(
        "host = '127.0.0.1'\nport = {}\nuser = 'fleet'\npassword = 'letmein-please'\n\
         from = 'Orangery <fleet@example.org>'\nto = ['kim@example.org', 'Otto <otto@example.org>']\n\
         template = '.{{title}}: {{text}}'",
        postbox.port
    );
    let telling = place.start(&place.target("mail", "smtp", &more));
    telling.refuse("attic", 1, 1, HOSTILE).await;
    let letters =
        eventually("mail comes", async || Some(postbox.letters()).filter(|letters| !letters.is_empty())).await;
    let letter = &letters[0];
    assert_eq!(
        (letter.from.as_str(), letter.to.as_slice()),
        ("fleet@example.org", ["kim@example.org".to_owned(), "otto@example.org".to_owned()].as_slice())
    );
    assert_eq!(letter.login, Some(("fleet".to_owned(), "letmein-please".to_owned())));
    let (head, body) = letter.data.split_once("\n\n").unwrap();
    assert!(head.contains("Subject: [orangery] attic refused greeter 1.1.0"), "{head}");
    assert!(head.lines().all(|line| !line.to_lowercase().starts_with("bcc")), "{head}");
    assert!(head.contains("Message-ID: <orangery-") && head.contains("-mail-1@example.org>"), "{head}");
    assert!(body.starts_with(".attic refused greeter 1.1.0: <!channel> @everyone Bcc:"), "{body}");
    let row = eventually("it is told", async || Some(telling.row("mail")).filter(|row| row.told == 1)).await;
    assert_eq!((row.sent, row.failed), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_not_sent_where_the_certificate_is_a_strangers_or_the_password_is_wrong() {
    let (place, stranger) = (Place::new(), Place::new());
    let (postbox, strange) = (Postbox::start(&place.ca).await, Postbox::start(&stranger.ca).await);
    let mail = |port: u16| {
        format!(
            "host = '127.0.0.1'\nport = {port}\nuser = 'fleet'\npassword = 'a-wrong-one'\nfrom = 'a@example.org'\nto = ['b@example.org']"
        )
    };
    let wrong = place.target("wrong", "smtp", &mail(postbox.port));
    let telling = place.start(&format!("{wrong}{}", place.target("strange", "smtp", &mail(strange.port))));
    telling.refuse("attic", 1, 1, "x").await;
    let failed = async |name: &str| {
        let row = eventually("it fails", async || Some(telling.row(name)).filter(|row| row.failed > 0)).await;
        row.failure.unwrap()
    };
    let (login, tls) = (failed("wrong").await, failed("strange").await);
    assert!(login.contains("535") && !login.contains("a-wrong-one"), "{login}");
    assert!(tls.to_lowercase().contains("certificate"), "{tls}");
    assert!(postbox.letters().is_empty() && strange.letters().is_empty());
}
