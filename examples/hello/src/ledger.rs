//! The ledger of `amrita tutorial orders`: keeps the accounts of those who order. Documents tell it
//! what is paid; the sender of each message is the link of the order, into which the ledger writes
//! a receipt. Not one line is about failures, or about what comes or is written twice: nothing is.

use std::collections::BTreeMap;
use std::process::ExitCode;

use immortal::{Context, Document, Immortal, Incoming, Outcome};
use serde::{Deserialize, Serialize};

use crate::say;

immortal::interface! {
    /// What the ledger can do.
    pub trait Accounts => AccountsProxy {
        1 => fn pay(customer: String, amount: u64);
        2 => fn pay_back(customer: String, amount: u64);
        /// Shows all that was paid.
        9 => fn report();
    }
}

/// What one order has paid.
#[derive(Default, Serialize, Deserialize)]
struct Paid {
    amount: u64,
    /// It is one, if each message comes once.
    times: u64,
    /// It is none, or one if the order was cancelled.
    times_back: u64,
    /// How many receipts it has.
    receipts: u64,
}

/// What is written into an order.
#[derive(Serialize)]
struct Receipt {
    receipt: String,
}

/// What is awaited.
#[derive(Serialize, Deserialize)]
enum Next {
    /// A receipt was written into that order.
    Receipt(String),
}

#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    accounts: BTreeMap<String, i64>,
    orders: BTreeMap<String, Paid>,
    messages: u64,
}

impl Ledger {
    fn enter(&mut self, customer: &str, amount: i64) {
        self.messages += 1;
        *self.accounts.entry(customer.to_owned()).or_default() += amount;
    }

    /// The write is made once, and its outcome comes once, as with every message.
    fn write_receipt(context: &mut Context<'_, Self>, order: String, receipt: String) {
        let write = Document::at(order.as_str()).patch(&Receipt { receipt });
        write.call(context, Next::Receipt(order));
    }
}

impl Accounts for Ledger {
    fn pay(&mut self, context: &mut Context<'_, Self>, customer: String, amount: u64) {
        let order = context.sender().name.to_owned();
        say(&format!("paid: {order}, {amount} by {customer}"));
        self.enter(&customer, i64::try_from(amount).unwrap_or(i64::MAX));
        let paid = self.orders.entry(order.clone()).or_default();
        paid.amount = amount;
        paid.times += 1;
        Self::write_receipt(context, order, format!("{amount} paid by {customer}"));
    }

    fn pay_back(&mut self, context: &mut Context<'_, Self>, customer: String, amount: u64) {
        let order = context.sender().name.to_owned();
        say(&format!("paid back: {order}, {amount} to {customer}"));
        self.enter(&customer, -i64::try_from(amount).unwrap_or(i64::MAX));
        self.orders.entry(order.clone()).or_default().times_back += 1;
        Self::write_receipt(context, order, format!("{amount} paid back to {customer}"));
    }

    fn report(&mut self, _: &mut Context<'_, Self>) {
        for (order, Paid { amount, times, times_back, receipts }) in &self.orders {
            say(&format!("report: {order} {amount} {times} {times_back} {receipts}"));
        }
        let sum: i64 = self.accounts.values().sum();
        say(&format!("report: {} messages, sum {sum}", self.messages));
    }
}

impl Immortal for Ledger {
    type Next = Next;
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    fn resume(&mut self, _: &mut Context<'_, Self>, next: Next, outcome: Outcome<'_>) {
        let Next::Receipt(order) = next;
        match outcome.written() {
            Ok(written) => {
                let version = written.version().unwrap_or_default();
                say(&format!("receipt: {order}, version {version}"));
                self.orders.entry(order).or_default().receipts += 1;
            }
            Err(why) => say(&format!("no receipt: {order}, {why}")),
        }
    }
}

/// The program, with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    crate::main("ledger", arguments, Ledger::default)
}
