//! Passwords that are tried first. No list of a million is carried along: with twelve characters and more, what people choose
//! without thought has a few forms.

/// Words of which such passwords are made, with nothing but digits and signs between them.
const WORDS: &[&str] = &[
    "abc",
    "abcd",
    "access",
    "account",
    "admin",
    "administrator",
    "alpha",
    "angel",
    "april",
    "august",
    "autumn",
    "baseball",
    "batman",
    "beta",
    "bitte",
    "blue",
    "board",
    "boss",
    "change",
    "cheese",
    "computer",
    "coordinator",
    "correct",
    "horse",
    "battery",
    "staple",
    "dashboard",
    "december",
    "default",
    "deploy",
    "dragon",
    "fleet",
    "flower",
    "football",
    "geheim",
    "girl",
    "guest",
    "hallo",
    "hello",
    "home",
    "iloveyou",
    "internet",
    "january",
    "july",
    "june",
    "killer",
    "letmein",
    "liverpool",
    "login",
    "love",
    "lovely",
    "march",
    "master",
    "me",
    "michael",
    "monday",
    "monkey",
    "mustang",
    "my",
    "mypassword",
    "naruto",
    "node",
    "november",
    "now",
    "october",
    "operator",
    "orange",
    "orangery",
    "owner",
    "pass",
    "passphrase",
    "passw",
    "password",
    "passwort",
    "please",
    "pokemon",
    "princess",
    "qwerty",
    "qwertz",
    "raspberry",
    "raspberrypi",
    "root",
    "samsung",
    "secret",
    "secure",
    "security",
    "september",
    "server",
    "shadow",
    "soccer",
    "spring",
    "starwars",
    "summer",
    "sunday",
    "sunshine",
    "superman",
    "system",
    "test",
    "the",
    "to",
    "trustno",
    "user",
    "welcome",
    "winter",
    "word",
    "you",
];

/// Characters that are next to each other on keyboards, in the alphabet and among numbers.
const ROWS: [&str; 9] = [
    "abcdefghijklmnopqrstuvwxyz",
    "12345678901234567890",
    "qwertyuiop",
    "qwertzuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Fewest different characters.
const DIFFERENT_MIN: usize = 5;
/// A shorter text is no better for being repeated.
const UNIT_MIN: usize = 8;

/// Whether a text in lower case is one of the first that somebody would try.
pub(super) fn is_common(lower: &str) -> bool {
    let characters: Vec<char> = lower.chars().collect();
    let mut different = characters.clone();
    different.sort_unstable();
    different.dedup();
    different.len() < DIFFERENT_MIN
        || characters.iter().all(|c| !c.is_alphabetic())
        || is_walk(&characters)
        || is_repeated(&characters)
        || is_of_words(&characters)
}

/// Whether nearly every character is next to the one before it.
fn is_walk(characters: &[char]) -> bool {
    let are_neighbours = |pair: &[char]| {
        let [a, b] = pair else { return false };
        let (there, back) = (format!("{a}{b}"), format!("{b}{a}"));
        a == b || ROWS.iter().any(|row| row.contains(&there) || row.contains(&back))
    };
    let leaps = characters.windows(2).filter(|pair| !are_neighbours(pair)).count();
    leaps <= characters.len() / 4
}

/// Whether it is a short text several times, or a common one.
fn is_repeated(characters: &[char]) -> bool {
    let repeats = |length: &usize| {
        characters.len().is_multiple_of(*length)
            && characters.chunks(*length).all(|part| Some(part) == characters.get(..*length))
    };
    let unit = (1..=characters.len() / 2).find(repeats);
    unit.is_some_and(|length| length < UNIT_MIN || characters.get(..length).is_some_and(is_of_words))
}

/// Whether it is made of common words, digits and signs alone, or is so when signs that stand for letters are read as those.
fn is_of_words(characters: &[char]) -> bool {
    let letters = |characters: &[char]| characters.iter().filter(|c| c.is_alphabetic()).collect::<String>();
    let end = characters.iter().rposition(|c| c.is_alphabetic()).map_or(0, |last| last + 1);
    let read: Vec<char> = characters.iter().take(end).map(|c| stands_for(*c)).collect();
    are_words(&letters(characters)) || are_words(&letters(&read))
}

fn stands_for(sign: char) -> char {
    match sign {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// Whether the whole text is one common word after the other.
fn are_words(text: &str) -> bool {
    // Places that can be reached by whole words.
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for place in 0..text.len() {
        if !reached.get(place).is_some_and(|reached| *reached) {
            continue;
        }
        let Some(rest) = text.get(place..) else { continue };
        for word in WORDS.iter().filter(|word| rest.starts_with(**word)) {
            if let Some(after) = reached.get_mut(place + word.len()) {
                *after = true;
            }
        }
    }
    !text.is_empty() && reached.last().is_some_and(|reached| *reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_first_is_known() {
        // From public lists of the most common passwords of twelve characters and more, and what people make of them.
        for common in [
            "123456789012",
            "1234567890123",
            "1q2w3e4r5t6y",
            "qwertyuiop12",
            "1qaz2wsx3edc",
            "password1234",
            "passwordpassword",
            "p@ssw0rd2026",
            "passw0rd!!!!",
            "iloveyou1234",
            "administrator",
            "admin123admin",
            "welcome12345",
            "letmein12345",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "abcdefghijkl",
            "qwertyqwerty",
            "asdfghjkl123",
            "zxcvbnm12345",
            "111122223333",
            "password!@#$",
            "test-test-test",
            "summer2026!!",
            "orangery-2026",
            "changeme-now-",
            "correct horse battery staple",
            "raspberrypi4",
            "trustno1trustno1",
            "qwertzuiop123",
            "987654321098",
            "010119900101",
            "welcome to orangery",
        ] {
            assert!(is_common(common), "{common}");
        }
    }

    #[test]
    fn what_somebody_has_thought_of_is_taken() {
        for good in [
            "a quiet tram",
            "kj8#vbq2!mzt",
            "seven owls knit",
            "weltraumlift-am-see",
            "пять зелёных трамваев",
            "my tram is late again",
            "password managers are fine",
            "horse-tractor-moss",
            "i4m-not-4-robot-ok",
        ] {
            assert!(!is_common(good), "{good}");
        }
    }
}
