//! `/core/orders`: each order tells the immortal `ledger` what is to be paid, and a cancelled one
//! what is to be paid back. What it tells is part of the version that it writes: there is no order
//! without its payment, and no payment without its order. The ledger writes a receipt into the
//! order, which adds it to those that it has and does not look whether it has it already.

use sdk::service::{Context, Field, FieldType, Patch, Problem, Service, Spec};
use serde::{Deserialize, Serialize};

/// The instance that keeps the accounts: `amrita example ledger`.
const LEDGER: &str = "ledger";

/// Its methods: a payment, and one back. Both take a customer and an amount.
const PAY: i64 = 1;
const PAY_BACK: i64 = 2;

pub struct OrderService;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    customer: String,
    amount: u64,
    cancelled: bool,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    receipts: Vec<String>,
}

impl Service for OrderService {
    type State = Order;

    fn spec(&self) -> Spec {
        Spec::new("/core/orders", "amrita:examples:Order")
            .about("Orders. Each is paid at the ledger, an immortal, exactly once.")
            .field(Field::new("customer", FieldType::String).required().example("jane"))
            .field(Field::new("amount", FieldType::Long).required().example(5))
            .field(Field::new("cancelled", FieldType::Boolean))
            .field(Field::new("receipt", FieldType::String).about("By the ledger."))
            .field(Field::new("receipts", FieldType::Collection).internal())
    }

    fn create(&self, context: &mut Context<'_>, order: &mut Order) -> Result<(), Problem> {
        if order.amount == 0 || order.cancelled || order.receipt.is_some() {
            let text = "a new order has an amount, is not cancelled, and has no receipt";
            return Err(Problem::bad_request(text));
        }
        context.send(LEDGER, PAY, &(&order.customer, order.amount))
    }

    fn put(&self, _: &mut Context<'_>, _: &Order, _: Order) -> Result<Order, Problem> {
        Err(Problem::bad_request("an order is changed by PATCH"))
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Order,
        patch: &Patch,
    ) -> Result<Order, Problem> {
        let mut new: Order = context.merge(current, patch)?;
        if patch.fields.contains_key("receipt") {
            new.receipts.extend(new.receipt.clone());
        }
        if (&new.customer, new.amount) != (&current.customer, current.amount) {
            return Err(Problem::bad_request("an order is cancelled, and not changed otherwise"));
        }
        if current.cancelled && !new.cancelled {
            return Err(Problem::bad_request("this order is cancelled: make a new one"));
        }
        if new.cancelled && !current.cancelled {
            context.send(LEDGER, PAY_BACK, &(&new.customer, new.amount))?;
        }
        Ok(new)
    }
}
