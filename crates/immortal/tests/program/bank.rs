//! A program that does everything a program can do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use immortal::{Context, Immortal, Impulses, Incoming, Outcome, Performed, Refused, Reply, WaitId};
use serde::{Deserialize, Serialize};

immortal::interface! {
    /// What a bank can do.
    pub(crate) trait Bank => BankProxy {
        1 => fn deposit(amount: u64);
        2 => fn withdraw(amount: u64) -> u64 | Refused;
        3 => fn balance() -> u64;
        /// Answered when there is so much.
        4 => fn when_rich(amount: u64) => Reply<u64>;
        5 => fn remind(name: String, seconds: u64);
        6 => fn forget();
        /// Takes the amount from another bank.
        7 => fn fetch(bank: BankProxy, amount: u64);
        8 => fn ask_rate(currency: String);
        9 => fn count_down(from: u64);
        10 => fn lottery() -> (u64, u64);
        11 => fn fail(text: String);
        12 => fn busy(millis: u64);
    }
}

immortal::interface! {
    /// Who is told.
    pub(crate) trait Listener => ListenerProxy {
        1 => fn told(text: String);
    }
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Vault {
    pub balance: u64,
    pub waiting: Vec<(u64, Reply<u64>)>,
    pub timer: Option<WaitId>,
    pub rates: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Next {
    Remind { name: String },
    Fetched { from: BankProxy },
    Rate { currency: String },
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Effect {
    Rate { currency: String },
}

/// How often an effect was done in this process.
pub(crate) static PERFORMED: AtomicU64 = AtomicU64::new(0);

impl Bank for Vault {
    fn deposit(&mut self, context: &mut Context<'_, Self>, amount: u64) {
        self.balance += amount;
        let balance = self.balance;
        for (_, reply) in self.waiting.extract_if(.., |(amount, _)| *amount <= balance) {
            context.answer(reply, Ok(balance));
        }
    }

    fn withdraw(&mut self, _: &mut Context<'_, Self>, amount: u64) -> Result<u64, Refused> {
        let rest = self.balance.checked_sub(amount);
        self.balance = rest.ok_or_else(|| Refused(format!("only {} is there", self.balance)))?;
        Ok(self.balance)
    }

    fn balance(&mut self, _: &mut Context<'_, Self>) -> u64 {
        self.balance
    }

    fn when_rich(&mut self, context: &mut Context<'_, Self>, amount: u64, reply: Reply<u64>) {
        if self.balance >= amount {
            context.answer(reply, Ok(self.balance));
        } else {
            self.waiting.push((amount, reply));
        }
    }

    fn remind(&mut self, context: &mut Context<'_, Self>, name: String, seconds: u64) {
        self.timer = Some(context.after(Duration::from_secs(seconds), Next::Remind { name }));
    }

    fn forget(&mut self, context: &mut Context<'_, Self>) {
        let cancelled = self.timer.take().is_some_and(|timer| context.cancel(timer));
        ListenerProxy::at("log").told(format!("forgotten: {cancelled}")).fork(context);
    }

    fn fetch(&mut self, context: &mut Context<'_, Self>, bank: BankProxy, amount: u64) {
        bank.withdraw(amount).call(context, Next::Fetched { from: bank.clone() });
    }

    fn ask_rate(&mut self, context: &mut Context<'_, Self>, currency: String) {
        context.effect(Effect::Rate { currency: currency.clone() }, Next::Rate { currency });
    }

    fn count_down(&mut self, context: &mut Context<'_, Self>, from: u64) {
        ListenerProxy::at("log").told(format!("{from}")).fork(context);
        if from > 0 {
            BankProxy::me().count_down(from - 1).fork(context);
        }
    }

    fn lottery(&mut self, context: &mut Context<'_, Self>) -> (u64, u64) {
        (context.random(), context.random_below(6))
    }

    fn fail(&mut self, _: &mut Context<'_, Self>, text: String) {
        panic!("{text}");
    }

    fn busy(&mut self, _: &mut Context<'_, Self>, millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }
}

impl Immortal for Vault {
    type Next = Next;
    type Effect = Effect;

    fn start(&mut self, _: &mut Context<'_, Self>, initial: &[u8]) {
        if let Ok((balance,)) = serde_json::from_slice(initial) {
            self.balance = balance;
        }
    }

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    fn resume(&mut self, context: &mut Context<'_, Self>, next: Next, outcome: Outcome<'_>) {
        let text = match next {
            Next::Remind { name } => format!("remember {name} at {}", context.now()),
            Next::Fetched { from } => {
                format!("{} has left {:?}", from.name(), outcome.value::<u64>())
            }
            Next::Rate { currency } => {
                let rate = outcome.value::<String>().unwrap_or_else(|why| why.0);
                self.rates.push(rate.clone());
                format!("{currency} is {rate}")
            }
        };
        ListenerProxy::at("log").told(text).fork(context);
    }

    fn perform(Effect::Rate { currency }: Effect) -> Performed {
        let times = PERFORMED.fetch_add(1, Ordering::SeqCst);
        match currency.as_str() {
            "gone" => Performed::refused("no such currency"),
            "panic" => panic!("the machine is broken"),
            _ => Performed::value(&format!("{currency} number {times}")),
        }
    }

    fn primary(&self, impulses: &Impulses) {
        // One is enough for the tests of impulses; the others have no use for it.
        if self.balance == 77 {
            let impulses = impulses.clone();
            std::thread::spawn(move || BankProxy::me().deposit(1).impulse(&impulses));
        }
    }
}
