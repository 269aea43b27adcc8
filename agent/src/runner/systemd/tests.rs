use super::unit::quoted;

#[test]
fn a_word_cannot_break_out_of_its_quotes() {
    for (text, written) in [
        ("plain", r#""plain""#),
        ("", r#""""#),
        ("two words; $HOME %n", r#""two words; $HOME %%n""#),
        (r#"a"b\c"#, r#""a\"b\\c""#),
        ("a\nExecStart=/bin/sh\t\r\x7f", r#""a\nExecStart=/bin/sh\t\x0d\x7f""#),
        ("ä€", "\"ä€\""),
    ] {
        assert_eq!(quoted(text), written);
    }
}
