//! `amrita tutorial orders`: orders as documents, and a ledger as an immortal. Programs and nodes
//! are killed while orders are made; in the end each order is paid exactly once, and has one
//! receipt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::OrdersOptions;
use super::ask::{self, until};
use super::cluster::Cluster;
use super::program::Program;
use super::shell::{amrita, instance, primary, standbys};
use super::story::{Story, line, shown};

const ORDERS: &str = "/core/orders";
const LEDGER: &str = "ledger";

const STEPS: usize = 10;

/// How many orders are made while no ledger is there.
const WAITING: u64 = 5;

/// How long anything may take that is awaited.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// # Errors
/// At the first thing that goes otherwise than told.
pub(super) async fn run(options: &OrdersOptions) -> Result<(), String> {
    let began = Instant::now();
    let title = "Orders that are paid exactly once";
    let mut play = Play {
        story: Story::begin(title, STEPS),
        ledgers: Vec::new(),
        made: 0,
        each: options.orders.max(2),
        cluster: Cluster::prepare(&options.place, "orders")?,
    };
    if let Err(why) = play.all().await {
        play.cluster.keep_folder();
        return Err(play.story.where_it_broke(&why));
    }
    line(&format!("\nEverything was as told. It took {}.", shown(began.elapsed())));
    Ok(())
}

/// What is killed while orders are made.
#[derive(Clone, Copy, Debug)]
enum Goes {
    /// The primary of the ledger.
    Program,
    /// The node that owns one of the orders.
    OwnerOfOrder,
    /// The node of the ledger's primary, and the program with it.
    NodeOfLedger,
    Everything,
}

struct Play {
    story: Story,
    /// The ledger's copy on each node. They go before the nodes.
    ledgers: Vec<Option<Program>>,
    /// How many orders were made; they are numbered from 1.
    made: u64,
    each: u64,
    cluster: Cluster,
}

fn name_of(order: u64) -> String {
    format!("o{order:05}")
}

fn amount_of(order: u64) -> u64 {
    1 + order % 9
}

fn customer_of(order: u64) -> &'static str {
    if order.is_multiple_of(2) { "jane" } else { "bob" }
}

fn order(number: u64) -> Value {
    let (link, amount) = (name_of(number), amount_of(number));
    json!({ "documentSelfLink": link, "customer": customer_of(number), "amount": amount })
}

impl Play {
    async fn all(&mut self) -> Result<(), String> {
        self.nodes_and_ledgers_start().await?;
        self.an_order_is_paid().await?;
        for (goes, title) in [
            (Goes::Program, "the ledger's primary is killed"),
            (Goes::OwnerOfOrder, "a node that owns orders is killed"),
            (Goes::NodeOfLedger, "the node of the ledger's primary is killed, and the program"),
            (Goes::Everything, "all nodes and all programs are killed at once"),
        ] {
            self.dies_in_the_middle(goes, title).await?;
        }
        self.orders_wait_for_the_ledger().await?;
        self.an_order_is_cancelled().await?;
        self.each_order_has_one_receipt().await?;
        self.each_order_was_paid_once().await?;
        self.story.close_step();
        Ok(())
    }

    async fn nodes_and_ledgers_start(&mut self) -> Result<(), String> {
        self.story.step("three nodes, and a ledger on each");
        for which in 0..self.cluster.len() {
            self.story.shell(&self.cluster.command_line(which));
        }
        let took = self.cluster.start_all().await?;
        self.story.holds(&format!("ready after {}", shown(took)));
        self.story.shell(&format!("export AMRITA_ADDRESS={}", self.cluster.addresses()));
        let words = ["immortal", "register", LEDGER, "--replicas", "n1,n2,n3"];
        amrita(&self.story, &self.cluster, &words).await?;
        self.ledgers = (0..self.cluster.len()).map(|_| None).collect();
        for which in 0..self.cluster.len() {
            self.story.shell(&format!("amrita {}", self.arguments(which).join(" ")));
            self.start_ledger(which)?;
        }
        self.served().await?;
        self.story.holds("one primary, two standbys");
        Ok(())
    }

    async fn an_order_is_paid(&mut self) -> Result<(), String> {
        self.story.step("an order, and its payment");
        self.story.say(
            "An order is a document. Its handler (examples/src/order.rs) says: \
             context.send(\"ledger\", PAY, ...). The message is in the same entry of the log as \
             the order, so there is no order without a payment, and no payment without an order.",
        );
        self.made += 1;
        let uri = self.cluster.uri(0, ORDERS);
        self.story.ask(Method::Post, &uri, Some(&order(self.made))).await?.expect(200)?;
        let words = format!("paid: {ORDERS}/{}, ", name_of(self.made));
        self.ledgers_say(&words).await?;
        self.story.holds("each copy of the ledger has been told once");
        self.story.say(
            "The ledger writes a receipt into the order (examples/hello/src/ledger.rs): \
             Document::at(order).patch(...).call(context, ...). That write is made once as well, \
             and the ledger is told once what became of it.",
        );
        self.ledgers_say(&format!("receipt: {ORDERS}/{}, version 1", name_of(self.made))).await?;
        let uri_of_order = self.cluster.uri(1, &format!("{ORDERS}/{}", name_of(self.made)));
        self.story.ask(Method::Get, &uri_of_order, None).await?.expect(200)?;
        self.story.say("An order that is refused sends nothing:");
        let wrong = json!({ "customer": "jane", "amount": 0 });
        self.story.ask(Method::Post, &uri, Some(&wrong)).await?.expect(400)?;
        Ok(())
    }

    /// Orders are made, and something is killed when half of them are acknowledged.
    async fn dies_in_the_middle(&mut self, goes: Goes, title: &str) -> Result<(), String> {
        self.story.step(title);
        self.served().await?;
        let (first, last) = (self.made + 1, self.made + self.each);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let posting = post(&self.cluster.addresses(), first, last, Arc::clone(&acknowledged))?;
        while acknowledged.load(Ordering::Relaxed) < self.each / 2 && !posting.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let gone = self.kill(goes).await?;
        self.story.row(&format!(
            "killed after {} of {} orders: {gone}",
            acknowledged.load(Ordering::Relaxed),
            self.each
        ));
        if matches!(goes, Goes::Everything) {
            self.start_again()?;
        }
        posting.await.map_err(|error| error.to_string())??;
        self.made = last;
        self.start_again()?;
        for which in 0..self.cluster.len() {
            self.cluster.wait_until_available(which, self.cluster.len()).await?;
        }
        self.served().await?;
        self.story.holds(&format!("all {} orders were acknowledged", self.each));
        Ok(())
    }

    /// SIGKILL. Says what has gone.
    async fn kill(&mut self, goes: Goes) -> Result<String, String> {
        let state = instance(&self.cluster, 0, LEDGER).await?;
        let primary = primary(&state).and_then(|node| self.cluster.which(&node));
        let primary = primary.ok_or("the ledger has no primary")?;
        match goes {
            Goes::Program => {
                self.kill_ledger(primary)?;
                Ok(format!("the program on {}", self.cluster.id(primary)))
            }
            Goes::OwnerOfOrder => {
                let uri = self.cluster.uri(0, &format!("{ORDERS}/{}", name_of(1)));
                let order = ask::get(&uri).await?.expect(200)?.body;
                let owner = order["documentOwner"].as_str().unwrap_or_default();
                let which = self.cluster.which(owner).ok_or("the order has no owner")?;
                self.kill_node(which)
            }
            Goes::NodeOfLedger => self.kill_node(primary),
            Goes::Everything => {
                for which in 0..self.cluster.len() {
                    self.kill_node(which)?;
                }
                Ok("n1, n2, n3 and their programs".to_owned())
            }
        }
    }

    fn kill_node(&mut self, which: usize) -> Result<String, String> {
        self.cluster.kill(which)?;
        self.kill_ledger(which)?;
        Ok(format!("node {} and its program", self.cluster.id(which)))
    }

    fn kill_ledger(&mut self, which: usize) -> Result<(), String> {
        self.ledgers[which].take().map_or(Ok(()), |mut program| program.kill())
    }

    /// Whatever does not run.
    fn start_again(&mut self) -> Result<(), String> {
        for which in 0..self.cluster.len() {
            if !self.cluster.is_running(which) {
                self.cluster.start(which)?;
            }
            if self.ledgers[which].is_none() {
                self.start_ledger(which)?;
            }
        }
        Ok(())
    }

    async fn orders_wait_for_the_ledger(&mut self) -> Result<(), String> {
        self.story.step("the ledger is away");
        self.story.say(
            "All copies of the ledger are killed. Orders are taken all the same: their payments \
             wait in the outbox of the orders' partition, on the disks of a majority.",
        );
        for which in 0..self.cluster.len() {
            self.kill_ledger(which)?;
        }
        let (first, last) = (self.made + 1, self.made + WAITING);
        let posting = post(&self.cluster.addresses(), first, last, Arc::default())?;
        posting.await.map_err(|error| error.to_string())??;
        self.made = last;
        let link = format!("{ORDERS}/{}", name_of(last));
        let said = amrita(&self.story, &self.cluster, &["explain", &link]).await?;
        if !said.contains("ledger") {
            return Err(format!("expected that {link} waits for the ledger:\n{said}"));
        }
        self.start_again()?;
        self.served().await?;
        self.ledgers_say(&format!("paid: {link}, ")).await?;
        self.story.holds("the payments came when the ledger was back");
        Ok(())
    }

    async fn an_order_is_cancelled(&mut self) -> Result<(), String> {
        self.story.step("an order is cancelled");
        let uri = self.cluster.uri(1, &format!("{ORDERS}/{}", name_of(1)));
        let body = json!({ "cancelled": true });
        self.story.ask(Method::Patch, &uri, Some(&body)).await?.expect(200)?;
        self.ledgers_say(&format!("paid back: {ORDERS}/{}, ", name_of(1))).await?;
        self.story.holds("the ledger was told once, after the payment");
        Ok(())
    }

    /// The order adds each receipt to those that it has, so one that was written twice would show.
    async fn each_order_has_one_receipt(&mut self) -> Result<(), String> {
        self.story.step("each order has one receipt");
        for number in 1..=self.made {
            let (amount, customer) = (amount_of(number), customer_of(number));
            let mut expected = vec![format!("{amount} paid by {customer}")];
            if number == 1 {
                expected.push(format!("{amount} paid back to {customer}"));
            }
            let uri = self.cluster.uri(0, &format!("{ORDERS}/{}", name_of(number)));
            until(DONE_WITHIN, async || {
                let order = ask::get(&uri).await?.expect(200)?.body;
                match order["receipts"] == json!(expected) {
                    true => Ok(()),
                    false => Err(format!("{uri} should have {expected:?}: {order}")),
                }
            })
            .await?;
        }
        self.story.holds(&format!(
            "{} receipts in {} orders, in order: none missing, none twice",
            self.made + 1,
            self.made
        ));
        Ok(())
    }

    async fn each_order_was_paid_once(&mut self) -> Result<(), String> {
        self.story.step("each order was paid once");
        let began = Instant::now();
        loop {
            amrita(&self.story, &self.cluster, &["immortal", "send", LEDGER, "9"]).await?;
            self.ledgers_say("messages, sum ").await?;
            match self.wrong_report() {
                None => break,
                Some(why) if began.elapsed() > DONE_WITHIN => return Err(why),
                // The ledger is not told of the last receipts so far.
                Some(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
        self.story.holds(&format!(
            "{} orders, {} payments, and one back, at each of {} copies: none missing, none twice",
            self.made,
            self.made,
            self.cluster.len()
        ));
        let primary = self.served().await?;
        let state = instance(&self.cluster, primary, LEDGER).await?;
        self.story.row(&format!(
            "messages that came once more since its owner changed last, and were dropped: {}",
            state["repeatsDropped"]
        ));
        Ok(())
    }

    /// What a copy of the ledger has reported, if it is not what it must be.
    fn wrong_report(&mut self) -> Option<String> {
        let sum = (2..=self.made).map(amount_of).sum::<u64>();
        let end = format!("report: {} messages, sum {sum}", self.made + 1);
        for ledger in self.ledgers.iter_mut().flatten() {
            let mut paid = BTreeMap::new();
            for said in ledger.said().iter().filter_map(|it| it.text.strip_prefix("report: ")) {
                let words: Vec<&str> = said.split(' ').collect();
                if let [link, amount, times, times_back, receipts] = words[..]
                    && link.starts_with('/')
                {
                    let what = format!("{amount} {times} {times_back} {receipts}");
                    paid.insert(link.to_owned(), what);
                }
            }
            let expected = |number: u64| {
                let back = u64::from(number == 1);
                let link = format!("{ORDERS}/{}", name_of(number));
                (link, format!("{} 1 {back} {}", amount_of(number), 1 + back))
            };
            let expected: BTreeMap<String, String> = (1..=self.made).map(expected).collect();
            let wrong = expected.iter().find(|(link, what)| paid.get(*link) != Some(*what));
            if let Some((link, what)) = wrong {
                let found = paid.get(link);
                return Some(format!("{}: {link} should be {what}, is {found:?}", ledger.name));
            }
            if paid.len() != expected.len() || !ledger.said().iter().any(|it| it.text == end) {
                return Some(format!(
                    "{} has {} orders of {}, and did not say '{end}': {}",
                    ledger.name,
                    paid.len(),
                    expected.len(),
                    ledger.last_words()
                ));
            }
        }
        None
    }

    // What the steps are made of.

    fn arguments(&self, which: usize) -> Vec<String> {
        let socket = self.cluster.sandbox(which).join("immortals.sock").display().to_string();
        ["example", LEDGER, "--node", &socket].map(str::to_owned).to_vec()
    }

    fn start_ledger(&mut self, which: usize) -> Result<(), String> {
        let id = self.cluster.id(which);
        let log = self.cluster.folder().join(format!("{LEDGER}-{id}.log"));
        let (name, arguments) = (format!("the ledger on {id}"), self.arguments(which));
        let program = Program::start(&name, self.cluster.program(), &arguments, &log)?;
        self.ledgers[which] = Some(program);
        Ok(())
    }

    async fn ledgers_say(&mut self, words: &str) -> Result<(), String> {
        for ledger in self.ledgers.iter_mut().flatten() {
            ledger.wait_for(words, 1).await?;
        }
        Ok(())
    }

    /// Until the ledger has a primary and two standbys; gives the node of the primary.
    async fn served(&mut self) -> Result<usize, String> {
        let asked = *self.cluster.running().first().ok_or("no node runs")?;
        let found = until(DONE_WITHIN, async || {
            let state = instance(&self.cluster, asked, LEDGER).await?;
            match primary(&state).and_then(|node| self.cluster.which(&node)) {
                Some(which) if standbys(&state) == 2 => Ok(which),
                _ => Err(format!("the ledger has no primary with two standbys: {state}")),
            }
        })
        .await;
        self.cluster.all_well()?;
        found
    }
}

/// Makes orders, one after the other, each until it is acknowledged.
fn post(
    addresses: &str,
    first: u64,
    last: u64,
    acknowledged: Arc<AtomicU64>,
) -> Result<JoinHandle<Result<(), String>>, String> {
    let addresses: Vec<&str> = addresses.split(',').collect();
    let client = Client::new(&addresses).map_err(|error| error.to_string())?;
    let client = client.patience(DONE_WITHIN).reach_within(DONE_WITHIN);
    Ok(tokio::spawn(async move {
        for number in first..=last {
            post_one(&client, number).await?;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }))
}

/// While too few nodes are up the order is refused, and asked for again under the same key.
async fn post_one(client: &Client, number: u64) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let mut request = client::request(Method::Post, ORDERS).with_json(&order(number));
        request.idempotency_key = Some(format!("order {number}"));
        let why = match client.send(request).await {
            Ok(response) if response.status == 200 => return Ok(()),
            Ok(response) => response.to_json().to_string(),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > DONE_WITHIN {
            return Err(format!("order {number} was not made: {why}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
