//! Random predicates on random documents, against a second reading of the language over parsed documents.

use json_predicate::Predicate;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Expr {
    Compare(Operand, &'static str, Operand),
    In(Operand, bool, Vec<Value>),
    Contains(Operand, Operand),
    Exists(String),
    Truth(String),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

#[derive(Clone, Debug)]
enum Operand {
    Pointer(String),
    Literal(Value),
}

/// Binary operators are written without parentheses where their precedence allows it: `outer` is that of the place.
fn text(expr: &Expr, outer: u8) -> String {
    let parenthesised = |own: u8, text: String| if own < outer { format!("( {text} )") } else { text };
    match expr {
        Expr::Compare(left, operator, right) => format!("{} {operator} {}", operand(left), operand(right)),
        Expr::In(left, negated, list) => {
            let list: Vec<String> = list.iter().map(Value::to_string).collect();
            format!(
                "{}{} in [{}]",
                operand(left),
                if *negated { " not" } else { "" },
                list.join(",")
            )
        }
        Expr::Contains(left, right) => format!("contains({},{})", operand(left), operand(right)),
        Expr::Exists(pointer) => format!("exists({pointer})"),
        Expr::Truth(pointer) => pointer.clone(),
        Expr::Not(inner) => format!("not {}", text(inner, 3)),
        Expr::And(left, right) => parenthesised(2, format!("{} and {}", text(left, 2), text(right, 2))),
        Expr::Or(left, right) => parenthesised(1, format!("{} or {}", text(left, 1), text(right, 1))),
    }
}

fn operand(operand: &Operand) -> String {
    match operand {
        Operand::Pointer(pointer) => pointer.clone(),
        Operand::Literal(value) => value.to_string(),
    }
}

fn holds(expr: &Expr, doc: &Value) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Pointer(pointer) => doc.pointer(pointer).cloned(),
        Operand::Literal(value) => Some(value.clone()),
    };
    match expr {
        Expr::Compare(left, operator, right) => compare(value(left), operator, value(right)),
        Expr::In(left, negated, list) => {
            list.iter().any(|item| equal(&value(left), &Some(item.clone()))) != *negated
        }
        Expr::Contains(left, right) => match (value(left), value(right)) {
            (Some(Value::String(left)), Some(Value::String(right))) => left.contains(&right),
            (Some(Value::Array(items)), right) => items.into_iter().any(|item| equal(&Some(item), &right)),
            _ => false,
        },
        Expr::Exists(pointer) => doc.pointer(pointer).is_some(),
        Expr::Truth(pointer) => doc.pointer(pointer) == Some(&Value::Bool(true)),
        Expr::Not(inner) => !holds(inner, doc),
        Expr::And(left, right) => holds(left, doc) && holds(right, doc),
        Expr::Or(left, right) => holds(left, doc) || holds(right, doc),
    }
}

fn equal(left: &Option<Value>, right: &Option<Value>) -> bool {
    match (left, right) {
        (Some(Value::Array(_) | Value::Object(_)), _) | (None, _) => false,
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        _ => left == right,
    }
}

fn compare(left: Option<Value>, operator: &str, right: Option<Value>) -> bool {
    match operator {
        "==" => return equal(&left, &right),
        "!=" => return !equal(&left, &right),
        _ => {}
    }
    let order = match (left, right) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64().partial_cmp(&b.as_f64()),
        (Some(Value::String(a)), Some(Value::String(b))) => a.partial_cmp(&b),
        _ => None,
    };
    order.is_some_and(|order| match operator {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn scalars() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(1.0),
        json!(-2.5),
        json!(1e30),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("1"),
        json!("ä\n"),
        json!("\u{1F600}"),
    ])
}

fn documents() -> impl Strategy<Value = Value> {
    let value = scalars().prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[abc]", value, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
}

fn expressions() -> impl Strategy<Value = Expr> {
    let pointer =
        || prop::sample::select(vec!["/a", "/b", "/c", "/a/b", "/a/0", "/b/1"]).prop_map(str::to_owned);
    let operand =
        || prop_oneof![3 => pointer().prop_map(Operand::Pointer), 2 => scalars().prop_map(Operand::Literal)];
    let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        4 => (operand(), operator, operand()).prop_map(|(l, o, r)| Expr::Compare(l, o, r)),
        2 => (operand(), any::<bool>(), prop::collection::vec(scalars(), 1..4)).prop_map(|(l, n, i)| Expr::In(l, n, i)),
        2 => (operand(), operand()).prop_map(|(l, r)| Expr::Contains(l, r)),
        1 => pointer().prop_map(Expr::Exists),
        1 => pointer().prop_map(Expr::Truth),
    ];
    leaf.prop_recursive(4, 20, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| Expr::And(Box::new(l), Box::new(r))),
            (inner.clone(), inner).prop_map(|(l, r)| Expr::Or(Box::new(l), Box::new(r))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn predicates_mean_what_the_model_says(expr in expressions(), docs in prop::collection::vec(documents(), 1..4)) {
        let source = text(&expr, 0);
        let mut predicate = Predicate::parse(&source).unwrap_or_else(|e| panic!("{source}: {e}"));
        for doc in docs {
            let found = predicate.matches(doc.to_string().as_bytes());
            prop_assert_eq!(found, Ok(holds(&expr, &doc)), "{} on {}", source, doc);
        }
    }
}
