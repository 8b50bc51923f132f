//! The rules of immortals: every copy of a program is given the same inputs and has the same state
//! and says the same; what is said comes to its destination once and in order; what became of an
//! impulse is told truly.
//!
//! An instance that is deregistered and registered anew under the same name has several lives, and
//! a book for each. What its senders had not been told to be safe in a former life they may say to
//! the new one; what they said after that had begun must all come to it.

use std::collections::{BTreeMap, BTreeSet};

use super::Broken;

const SAME_INPUTS: &str = "all copies of a program are given the same inputs, for ever";
const SAME_STATES: &str = "copies of a program are equal at the same input";
const ONCE: &str = "what a program says comes to its destination once and in order";
const IMPULSES: &str = "what became of an impulse is told truly";

/// What is known of one instance.
#[derive(Debug, Default)]
struct Book {
    /// Its copies may differ, as they look at a clock.
    differs: bool,
    /// Digest and words of each input.
    inputs: BTreeMap<u64, (u64, String)>,
    /// Digests of the state, and of what was said, by input.
    states: BTreeMap<u64, (u64, u64)>,
    /// What was said to each destination: at which input, and the message.
    said: BTreeMap<String, Vec<(u64, u64)>>,
    /// The numbers of the first and the last message, by the sender's book.
    received: BTreeMap<String, (u64, u64)>,
    skipped: BTreeSet<u64>,
    /// Upgrades that were given up: what programs made of them will not have been.
    given_up: BTreeSet<u64>,
    /// How many copies were found to differ.
    diverged: u64,
}

#[derive(Debug, Default)]
struct Impulse {
    destination: String,
    /// It goes to one life of its destination, and to no other one when that has ended.
    once: bool,
    /// How often the destination had been registered anew by then.
    made: u64,
    logged: bool,
    lost: bool,
    /// The input that it was said to be.
    promised: Option<u64>,
    /// As which input, in each life.
    came: BTreeMap<String, u64>,
    /// It was told to be logged before there was a life after that one.
    sealed: Option<String>,
}

/// How an instance was registered anew last.
#[derive(Debug, Default)]
struct Birth {
    count: u64,
    /// How many messages each sender had said by then.
    said: BTreeMap<String, u64>,
}

/// The books of all instances.
#[derive(Debug, Default)]
pub struct Books {
    instances: BTreeMap<String, Book>,
    impulses: BTreeMap<String, Impulse>,
    births: BTreeMap<String, Birth>,
    inputs: u64,
}

/// The name of the book of one life; 0 when the instance has only one.
pub fn book_of(instance: &str, life: u32) -> String {
    if life == 0 { instance.to_owned() } else { format!("{instance}/{life:010}") }
}

/// The instance that a book is of.
fn instance_of(book: &str) -> &str {
    book.split('/').next().unwrap_or(book)
}

/// An input, in short.
#[derive(Clone, Copy, Debug)]
pub struct InputSeen<'a> {
    pub number: u64,
    pub digest: u64,
    pub words: &'a str,
    pub is_placeholder: bool,
}

impl Book {
    /// The upgrade at that input was given up, so what was known of it and of what came after is
    /// void.
    fn give_up(&mut self, input: u64) {
        self.skipped.insert(input);
        self.given_up.insert(input);
        self.states.split_off(&input);
        for said in self.said.values_mut() {
            said.retain(|(at, _)| *at < input);
        }
    }
}

impl Books {
    fn book(&mut self, instance: &str) -> &mut Book {
        self.instances.entry(instance.to_owned()).or_default()
    }

    /// How many inputs were held against the rules.
    pub fn judged(&self) -> u64 {
        self.inputs
    }

    /// How many lives there were of instances that may have more than one.
    pub fn lives(&self) -> u64 {
        let lives = self.instances.iter().filter(|(name, _)| instance_of(name) != name.as_str());
        lives.filter(|(_, book)| !book.inputs.is_empty()).count() as u64
    }

    pub fn may_differ(&mut self, instance: &str) {
        self.book(instance).differs = true;
    }

    pub fn skipped(&mut self, instance: &str, input: u64) {
        self.book(instance).skipped.insert(input);
    }

    /// A program was given an input.
    ///
    /// # Errors
    /// When another one was given another input under that number.
    pub fn given(&mut self, instance: &str, seen: InputSeen<'_>) -> Result<(), Broken> {
        self.inputs += 1;
        let InputSeen { number, digest, words, is_placeholder } = seen;
        let book = self.book(instance);
        if book.skipped.contains(&number) {
            return Ok(());
        }
        let known = book.inputs.get(&number);
        if is_placeholder && known.is_none_or(|(_, words)| words.contains("Upgrade")) {
            book.give_up(number);
            return Ok(());
        }
        if is_placeholder {
            let what = format!("input {number} of {instance} is missing, and nobody took it out");
            return Err(Broken::new(SAME_INPUTS, what));
        }
        let known = book.inputs.entry(number).or_insert_with(|| (digest, words.to_owned()));
        if known.0 == digest {
            return Ok(());
        }
        let what = format!("input {number} of {instance} was {}, now it is {words}", known.1);
        Err(Broken::new(SAME_INPUTS, what))
    }

    /// A message of another instance was given to a program for the first time or again.
    ///
    /// # Errors
    /// When the sender did not say it.
    pub fn received(
        &mut self,
        instance: &str,
        from: &str,
        number: u64,
        digest: u64,
    ) -> Result<(), Broken> {
        let (_, last) =
            self.book(instance).received.entry(from.to_owned()).or_insert((number, number));
        *last = number.max(*last);
        let sender = self.book(from);
        if sender.differs {
            return Ok(());
        }
        let place = usize::try_from(number - 1).expect("it is small");
        let said = sender.said.get(instance_of(instance)).and_then(|all| all.get(place));
        let said = said.map(|(_, digest)| digest);
        if said == Some(&digest) {
            return Ok(());
        }
        let what = format!(
            "{instance} was given message {number} of {from}, which {}",
            if said.is_some() { "is another one" } else { "was never said" }
        );
        Err(Broken::new(ONCE, what))
    }

    /// A program that was upgraded at that input is in a history that will not have been.
    pub fn is_void(&self, instance: &str, upgraded_at: u64) -> bool {
        let book = self.instances.get(instance);
        book.is_some_and(|book| book.given_up.contains(&upgraded_at))
    }

    /// A program has handled an input and said what follows from it: digests of messages.
    ///
    /// # Errors
    /// When another copy had another state then, or said something else.
    pub fn handled(
        &mut self,
        instance: &str,
        input: u64,
        state: u64,
        said: &[(String, u64)],
    ) -> Result<(), Broken> {
        let digest = said.iter().fold(7u64, |sum, (destination, digest)| {
            sum.wrapping_mul(31).wrapping_add(*digest).wrapping_add(destination.len() as u64)
        });
        let book = self.book(instance);
        if book.differs {
            return Ok(());
        }
        if let Some((known, words)) = book.states.get(&input) {
            if (*known, *words) == (state, digest) {
                return Ok(());
            }
            let what = format!("two copies of {instance} differ after input {input}");
            return Err(Broken::new(SAME_STATES, what));
        }
        book.states.insert(input, (state, digest));
        for (destination, digest) in said {
            book.said.entry(destination.clone()).or_default().push((input, *digest));
        }
        Ok(())
    }

    /// A program was given a state to begin with.
    ///
    /// # Errors
    /// When it is not the one that copies had at that input.
    pub fn loaded(&mut self, instance: &str, input: u64, state: u64) -> Result<(), Broken> {
        let book = self.book(instance);
        if book.differs || (input == 0 && !book.states.contains_key(&0)) {
            return Ok(());
        }
        match book.states.get(&input) {
            Some((known, _)) if *known == state => Ok(()),
            known => {
                let text = if known.is_some() { "another state" } else { "a state of the future" };
                let what = format!("{instance} was given {text} at input {input}");
                Err(Broken::new(SAME_STATES, what))
            }
        }
    }

    /// A program begins the whole.
    ///
    /// # Errors
    /// When the first state was another one.
    pub fn begun(&mut self, instance: &str, state: u64) -> Result<(), Broken> {
        let (known, _) = *self.book(instance).states.entry(0).or_insert((state, 0));
        if known == state {
            return Ok(());
        }
        Err(Broken::new(SAME_STATES, format!("{instance} began twice, and differently")))
    }

    // Impulses.

    /// `once`: not to a second life of the destination.
    pub fn pushed(&mut self, id: &str, destination: &str, once: bool) {
        let made = self.births.get(destination).map_or(0, |birth| birth.count);
        let destination = destination.to_owned();
        self.impulses
            .insert(id.to_owned(), Impulse { destination, once, made, ..Impulse::default() });
    }

    /// An impulse is among the inputs of an instance.
    ///
    /// # Errors
    /// When it was never made, or was told to be lost, or came earlier as another input.
    pub fn impulse_came(&mut self, instance: &str, id: &str, input: u64) -> Result<(), Broken> {
        let Some(impulse) = self.impulses.get_mut(id) else {
            let what = format!("{instance} was given impulse {id}, which nobody made");
            return Err(Broken::new(IMPULSES, what));
        };
        let first = *impulse.came.entry(instance.to_owned()).or_insert(input);
        let promised = impulse.promised.unwrap_or(input);
        let again = impulse.once && impulse.came.len() > 1;
        let late = impulse.sealed.as_ref().is_some_and(|last| instance > last.as_str());
        let astray = impulse.destination != instance_of(instance);
        if impulse.lost || (first, promised) != (input, input) || again || late || astray {
            let what =
                format!("{instance} was given impulse {id} as input {input}, but: {impulse:?}");
            return Err(Broken::new(IMPULSES, what));
        }
        Ok(())
    }

    // Lives.

    /// An instance is not registered any more and is about to be registered anew: what was told to
    /// be logged was so in a life that has ended.
    pub fn seal(&mut self, instance: &str) {
        let latest = self.latest(instance);
        let logged =
            self.impulses.values_mut().filter(|it| it.logged && it.destination == instance);
        for impulse in logged {
            impulse.sealed.get_or_insert_with(|| latest.clone());
        }
    }

    /// It is registered anew: what is said to it from now on goes to the new life.
    pub fn registered_anew(&mut self, instance: &str) {
        let said = |book: &Book| book.said.get(instance).map_or(0, |said| said.len() as u64);
        let said = self.instances.iter().map(|(name, book)| (name.clone(), said(book))).collect();
        let birth = self.births.entry(instance.to_owned()).or_default();
        *birth = Birth { count: birth.count + 1, said };
    }

    /// The book of its present life, as far as is known.
    pub fn latest(&self, instance: &str) -> String {
        let mut books = self.instances.keys().rev();
        let latest = books.find(|book| instance_of(book) == instance);
        latest.cloned().unwrap_or_else(|| instance.to_owned())
    }

    /// It was told to be logged (as that input; 0: not told).
    ///
    /// # Errors
    /// When it was another input.
    pub fn impulse_logged(&mut self, id: &str, input: u64) -> Result<(), Broken> {
        let Some(impulse) = self.impulses.get_mut(id) else { return Ok(()) };
        impulse.logged = true;
        if input > 0 && impulse.came.values().any(|came| *came != input) {
            let what =
                format!("impulse {id} was said to be input {input}, and is {:?}", impulse.came);
            return Err(Broken::new(IMPULSES, what));
        }
        impulse.promised = (input > 0).then_some(input);
        Ok(())
    }

    /// It was told that it is surely not logged.
    ///
    /// # Errors
    /// When it is.
    pub fn impulse_lost(&mut self, id: &str) -> Result<(), Broken> {
        let Some(impulse) = self.impulses.get_mut(id) else { return Ok(()) };
        impulse.lost = true;
        if impulse.came.is_empty() {
            return Ok(());
        }
        let what = format!("impulse {id} was told to be lost, and is input {:?}", impulse.came);
        Err(Broken::new(IMPULSES, what))
    }

    // Divergence.

    /// A node says that a copy has diverged.
    ///
    /// # Errors
    /// When its program is a good one.
    pub fn diverged(&mut self, instance: &str, words: &str) -> Result<(), Broken> {
        let book = self.book(instance);
        book.diverged += 1;
        if book.differs {
            return Ok(());
        }
        Err(Broken::new("no good program is said to have diverged", words.to_owned()))
    }

    // At the end.

    /// How many inputs were given to programs of an instance in its present life.
    pub fn inputs_of(&self, instance: &str) -> u64 {
        let book = self.instances.get(&self.latest(instance));
        book.and_then(|book| book.inputs.last_key_value()).map_or(0, |(last, _)| *last)
    }

    /// Something that was said and has not come, if there is any.
    pub fn missing(&self, alive: &BTreeSet<String>) -> Option<String> {
        for name in alive.iter().map(|name| self.latest(name)) {
            let Some(book) = self.instances.get(&name) else { continue };
            for (to, said) in book.said.iter().filter(|(to, _)| alive.contains(*to)) {
                if let Some(missing) = self.missing_of(&name, to, said.len() as u64) {
                    return Some(missing);
                }
            }
        }
        let births = |instance: &str| self.births.get(instance).map_or(0, |birth| birth.count);
        let mut impulses = self.impulses.iter();
        impulses
            .find(|(_, it)| {
                let here = alive.contains(&it.destination) && it.made == births(&it.destination);
                it.logged && it.came.is_empty() && here
            })
            .map(|(id, it)| {
                format!("impulse {id} was logged and did not come to {}", it.destination)
            })
    }

    /// What a sender has said comes whole; to one that was registered anew, all that was not said
    /// before.
    fn missing_of(&self, from: &str, to: &str, said: u64) -> Option<String> {
        let former = self.births.get(to).and_then(|birth| birth.said.get(from)).copied();
        let former = former.unwrap_or(0);
        let received = self.instances.get(&self.latest(to)).and_then(|to| to.received.get(from));
        let whole = match received.copied() {
            None => said <= former,
            Some((first, last)) => last == said && first <= former + 1,
        };
        let received = received.copied().unwrap_or((0, 0));
        (!whole).then(|| {
            format!(
                "{to} has messages {} to {} of {from}, which has said {said} (and {former} before \
                 it was registered anew)",
                received.0, received.1
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u64, digest: u64) -> InputSeen<'static> {
        InputSeen { number, digest, words: "w", is_placeholder: false }
    }

    #[test]
    fn copies_that_differ_are_found() {
        let mut books = Books::default();
        books.given("a", seen(1, 5)).unwrap();
        books.given("a", seen(1, 5)).unwrap();
        assert!(books.given("a", seen(1, 6)).is_err(), "another input");
        books.handled("a", 1, 9, &[]).unwrap();
        assert!(books.handled("a", 1, 8, &[]).is_err(), "another state");
        assert!(books.handled("a", 1, 9, &[("b".into(), 1)]).is_err(), "another output");
        assert!(books.loaded("a", 1, 8).is_err(), "another checkpoint");
        assert!(books.loaded("a", 2, 8).is_err(), "a checkpoint of the future");
    }

    #[test]
    fn what_followed_from_an_upgrade_that_was_given_up_is_void() {
        let mut books = Books::default();
        let upgrade = InputSeen { words: "Upgrade", ..seen(2, 5) };
        let placeholder = InputSeen { is_placeholder: true, ..seen(2, 6) };
        books.given("a", upgrade).unwrap();
        books.handled("a", 2, 9, &[("b".into(), 1)]).unwrap();
        books.given("a", placeholder).unwrap();
        assert!(books.is_void("a", 2) && !books.is_void("a", 1));
        books.handled("a", 2, 8, &[]).unwrap();
        assert!(books.received("b", "a", 1, 1).is_err(), "it has left all the same");
        let placeholder = InputSeen { number: 3, ..placeholder };
        books.given("a", seen(3, 7)).unwrap();
        assert!(books.given("a", placeholder).is_err(), "that was no upgrade");
    }

    #[test]
    fn what_was_not_said_and_what_did_not_come_is_found() {
        let mut books = Books::default();
        let alive = ["a", "b"].map(String::from).into();
        books.handled("a", 1, 9, &[("b".into(), 70), ("b".into(), 71)]).unwrap();
        assert!(books.missing(&alive).is_some());
        books.received("b", "a", 1, 70).unwrap();
        books.received("b", "a", 2, 71).unwrap();
        assert_eq!(books.missing(&alive), None);
        assert!(books.received("b", "a", 2, 70).is_err(), "another message");
        assert!(books.received("b", "a", 3, 70).is_err(), "never said");
    }

    #[test]
    fn lies_about_impulses_are_found() {
        let mut books = Books::default();
        for id in ["i", "j", "k"] {
            books.pushed(id, "a", true);
        }
        books.impulse_lost("i").unwrap();
        assert!(books.impulse_came("a", "i", 1).is_err(), "told to be lost");
        books.impulse_came("a", "j", 2).unwrap();
        assert!(books.impulse_came("a", "j", 3).is_err(), "came twice");
        assert!(books.impulse_logged("j", 4).is_err(), "another input");
        books.impulse_logged("k", 0).unwrap();
        assert!(books.missing(&["a".to_owned()].into()).is_some(), "logged and not there");
        assert!(books.impulse_came("a", "nobody's", 5).is_err());
    }

    #[test]
    fn what_is_said_to_one_that_was_registered_anew_must_come_to_its_new_life() {
        let mut books = Books::default();
        let alive = ["a", "b"].map(String::from).into();
        let (former, new) = (book_of("b", 7), book_of("b", 12));
        books.handled("a", 1, 9, &[("b".into(), 70), ("b".into(), 71)]).unwrap();
        books.received(&former, "a", 1, 70).unwrap();
        assert!(books.missing(&alive).is_some(), "the second one");
        books.registered_anew("b");
        books.given(&new, seen(1, 5)).unwrap();
        assert_eq!(books.latest("b"), new);
        assert_eq!(books.missing(&alive), None, "the former life may have had it");
        books.handled("a", 2, 8, &[("b".into(), 72), ("b".into(), 73)]).unwrap();
        assert!(books.missing(&alive).is_some(), "said to the new one");
        books.received(&new, "a", 4, 73).unwrap();
        assert!(books.missing(&alive).is_some(), "the third is left out");
        books.received(&new, "a", 2, 71).unwrap();
        let book = books.instances.get_mut(&new).unwrap();
        book.received.insert("a".into(), (2, 4));
        assert_eq!(books.missing(&alive), None);
    }

    #[test]
    fn an_impulse_of_a_former_life_does_not_come_to_the_new_one() {
        let mut books = Books::default();
        let (former, new) = (book_of("b", 7), book_of("b", 12));
        books.pushed("once", "b", true);
        books.pushed("sealed", "b", false);
        books.pushed("open", "b", false);
        for id in ["once", "sealed", "open"] {
            books.impulse_came(&former, id, 1).unwrap();
        }
        books.given(&former, seen(1, 5)).unwrap();
        books.impulse_logged("sealed", 0).unwrap();
        books.seal("b");
        books.impulse_came(&new, "open", 1).unwrap();
        assert!(books.impulse_came(&new, "once", 1).is_err());
        assert!(books.impulse_came(&new, "sealed", 1).is_err());
    }

    #[test]
    fn a_good_program_is_not_said_to_have_diverged() {
        let mut books = Books::default();
        books.may_differ("clock");
        books.diverged("clock", "it has").unwrap();
        assert!(books.diverged("a", "it has").is_err());
    }
}
