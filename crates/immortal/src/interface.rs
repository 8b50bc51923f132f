//! Typed messages: [`interface!`](crate::interface) makes of a list of methods a trait for the one
//! who handles them, a dispatcher, and a proxy for those who send them.
//!
//! Arguments stand in a JSON array, an answer is one JSON value: a program without this binding, in
//! any language, can speak with one that has it. Whoever wants every byte for himself uses the raw
//! level.

use std::marker::PhantomData;

use serde::Serialize;

use crate::book::WaitId;
use crate::format::put_arguments;
use crate::impulses::{Fate, Impulses, Ticket};
use crate::program::{Context, Immortal};

/// A message that a proxy has made and that is still to be sent. `R` is what an answer gives.
#[must_use = "nothing is sent yet: fork it, call it, or send it as an impulse"]
#[derive(Debug)]
pub struct Outgoing<'a, A, R> {
    to: &'a str,
    method: i64,
    arguments: A,
    answer: PhantomData<fn() -> R>,
}

impl<'a, A: Serialize, R> Outgoing<'a, A, R> {
    #[doc(hidden)]
    pub fn new(to: &'a str, method: i64, arguments: A) -> Self {
        Self { to, method, arguments, answer: PhantomData }
    }

    /// From a handler, without an answer.
    pub fn fork<P: Immortal>(self, context: &mut Context<'_, P>) {
        let Self { to, method, arguments, .. } = self;
        context.with_arguments(&arguments, |context, payload| context.fork(to, method, payload));
    }

    /// From a handler; [`Immortal::resume`] goes on with `next` when the answer comes.
    pub fn call<P: Immortal>(self, context: &mut Context<'_, P>, next: P::Next) -> WaitId {
        let Self { to, method, arguments, .. } = self;
        context
            .with_arguments(&arguments, |context, payload| context.call(to, method, payload, next))
    }

    /// From a thread beside the primary: waits until it is known whether it was logged.
    pub fn impulse(self, impulses: &Impulses) -> Fate {
        self.post(impulses).wait()
    }

    /// As [`Self::impulse`], without waiting.
    pub fn post(self, impulses: &Impulses) -> Ticket {
        impulses.post(self.to, self.method, &self.payload())
    }

    /// Where to.
    pub fn destination(&self) -> &'a str {
        self.to
    }

    /// The number of the method.
    pub fn method(&self) -> i64 {
        self.method
    }

    /// The arguments as they are sent.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        put_arguments(&mut payload, &self.arguments);
        payload
    }
}

/// Methods that an immortal has, with their numbers, which are what goes over the wire: a number is
/// never given to another method.
///
/// ```
/// use immortal::{Context, Immortal, Incoming, Refused, Reply};
/// use serde::{Deserialize, Serialize};
///
/// immortal::interface! {
///     /// An account.
///     pub trait Account => AccountProxy {
///         1 => fn deposit(amount: u64);
///         // May be refused: the handler returns a Result.
///         2 => fn withdraw(amount: u64) -> u64 | Refused;
///         // Answered later: the handler gets a Reply and keeps it.
///         3 => fn await_balance(amount: u64) => Reply<u64>;
///     }
/// }
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Savings { balance: u64, waiting: Vec<(u64, Reply<u64>)> }
///
/// impl Account for Savings {
///     fn deposit(&mut self, context: &mut Context<'_, Self>, amount: u64) {
///         self.balance += amount;
///         for (_, reply) in self.waiting.extract_if(.., |(amount, _)| *amount <= self.balance) {
///             context.answer(reply, Ok(self.balance));
///         }
///     }
///
///     fn withdraw(&mut self, _: &mut Context<'_, Self>, amount: u64) -> Result<u64, Refused> {
///         let rest = self.balance.checked_sub(amount);
///         self.balance = rest.ok_or_else(|| Refused("not so much is there".into()))?;
///         Ok(self.balance)
///     }
///
///     fn await_balance(&mut self, _: &mut Context<'_, Self>, amount: u64, reply: Reply<u64>) {
///         self.waiting.push((amount, reply));
///     }
/// }
///
/// impl Immortal for Savings {
///     type Next = ();
///     type Effect = ();
///
///     fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
///         self.dispatch(context, incoming);
///     }
/// }
/// ```
#[macro_export]
macro_rules! interface {
    (@run $this:ident $context:ident $incoming:ident $method:ident ($($arg:ident),*) [] []) => {{
        let answer = $this.$method($context, $($arg),*);
        $context.answer_now(&$incoming, Ok(answer));
    }};
    (
        @run $this:ident $context:ident $incoming:ident $method:ident
        ($($arg:ident),*) [$may:ident] []
    ) => {{
        let answer = $this.$method($context, $($arg),*);
        $context.answer_now(&$incoming, answer);
    }};
    (
        @run $this:ident $context:ident $incoming:ident $method:ident
        ($($arg:ident),*) [] [$later:ty]
    ) => {{
        let reply = $incoming.reply::<$later>($context.sender());
        $this.$method($context, $($arg,)* reply);
    }};
    (@value [] []) => { () };
    (@value [$answer:ty] []) => { $answer };
    (@value [] [$later:ty]) => { $later };
    (@returns $answer:ty []) => { $answer };
    (@returns $answer:ty [Refused]) => { Result<$answer, $crate::Refused> };
    (
        $(#[$about:meta])*
        $vis:vis trait $name:ident => $proxy:ident {
            $(
                $(#[$what:meta])*
                $number:literal => fn $method:ident($($arg:ident: $type:ty),* $(,)?)
                    $(-> $answer:ty $(| $may:ident)?)? $(=> Reply<$later:ty>)?;
            )*
        }
    ) => {
        $(#[$about])*
        $vis trait $name: $crate::Immortal {
            $(
                $(#[$what])*
                fn $method(
                    &mut self,
                    context: &mut $crate::Context<'_, Self>,
                    $($arg: $type,)*
                    $(reply: $crate::Reply<$later>,)?
                ) $(-> $crate::interface!(@returns $answer [$($may)?]))?;
            )*

            /// Calls the method that a message is for. One that is unknown, or has other arguments,
            /// changes nothing; a caller is told.
            fn dispatch(
                &mut self,
                context: &mut $crate::Context<'_, Self>,
                incoming: $crate::Incoming<'_>,
            ) {
                match incoming.method {
                    $(
                        $number => match incoming.arguments::<($($type,)*)>() {
                            Ok(($($arg,)*)) => $crate::interface!(
                                @run self context incoming $method
                                ($($arg),*) [$($($may)?)?] [$($later)?]
                            ),
                            Err(why) => context.refuse(&incoming, &why),
                        },
                    )*
                    other => {
                        let why = format!("there is no method {other}");
                        context.refuse(&incoming, &$crate::Refused(why));
                    }
                }
            }

            /// Whether this interface has the method: to choose between two.
            fn has_method(method: i64) -> bool {
                [$($number),*].contains(&method)
            }
        }

        #[doc = concat!("An instance with the methods of [`", stringify!($name), "`]. May be kept \
                                                                                  in a state.")]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $proxy(String);

        #[allow(dead_code, reason = "not every program sends every message of an interface")]
        impl $proxy {
            /// The instance of this name.
            pub fn at(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The program itself.
            pub fn me() -> Self {
                Self(String::new())
            }

            /// The instance's name.
            pub fn name(&self) -> &str {
                &self.0
            }

            $(
                $(#[$what])*
                pub fn $method(&self, $($arg: $type),*) -> $crate::Outgoing<
                    '_,
                    ($($type,)*),
                    $crate::interface!(@value [$($answer)?] [$($later)?]),
                > {
                    $crate::Outgoing::new(&self.0, $number, ($($arg,)*))
                }
            )*
        }

        impl $crate::serde::Serialize for $proxy {
            fn serialize<S: $crate::serde::Serializer>(
                &self,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $proxy {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(
                from: D,
            ) -> Result<Self, D::Error> {
                $crate::serde::Deserialize::deserialize(from).map(Self)
            }
        }
    };
}
