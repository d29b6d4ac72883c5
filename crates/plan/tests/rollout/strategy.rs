//! How a change is made, and why so.

use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::Policy;
use lamplighter_plan::rollout::strategy::{
    Compatibility, Described, Facts, Kind, LONG_BAKE, ModelFacts, Property, Refused, Trigger,
    choose,
};

use crate::build::{facts, model, policy};

type Chosen = Result<(Kind, Vec<Trigger>), Refused>;

fn changed(change: impl FnOnce(&mut ModelFacts)) -> Facts {
    let mut changed = model();
    change(&mut changed);
    facts(changed)
}

/// From the model as it is to a changed one.
fn from(old: &Facts, change: impl FnOnce(&mut ModelFacts)) -> Chosen {
    choose(old, &changed(change), &policy(), false)
}

fn with(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = policy();
    change(&mut policy);
    policy
}

#[track_caller]
fn assert_blue_green(chosen: &Chosen, trigger: Trigger) {
    assert_eq!(*chosen, Ok((Kind::BlueGreen, vec![trigger])));
}

#[track_caller]
fn assert_rolling(chosen: &Chosen) {
    assert_eq!(*chosen, Ok((Kind::Rolling, vec![Trigger::Compatible])));
}

fn differs(property: Property, old: &str, new: &str) -> Trigger {
    let (old, new) = (old.to_owned(), new.to_owned());
    Trigger::Differs { model: "minilm".to_owned(), property, old, new }
}

/// Guarantees: strategy-01.
#[test]
fn what_no_client_could_notice_is_rolled() {
    let old = facts(model());
    assert_rolling(&from(&old, |_| {}));
    assert_rolling(&from(&old, |new| new.version = "1.9.0".to_owned()));
}

/// Guarantees: strategy-01.
#[test]
fn each_property_that_a_client_could_notice_asks_for_a_second_environment() {
    type Change = fn(&mut ModelFacts);
    let cases: [(Change, Trigger); 9] = [
        (|new| new.version = "2.0.0".to_owned(), differs(Property::MajorVersion, "1", "2")),
        (|new| new.task = "Rank".to_owned(), differs(Property::Task, "Embedding", "Rank")),
        (
            |new| new.architecture = Some("T5".to_owned()),
            differs(Property::Architecture, "BertModel", "T5"),
        ),
        (|new| new.layers = 12, differs(Property::Layers, "6", "12")),
        (|new| new.hidden = 768, differs(Property::Hidden, "384", "768")),
        (|new| new.vocabulary = 8, differs(Property::Vocabulary, "30522", "8")),
        (|new| new.output = 256, differs(Property::Output, "384", "256")),
        (|new| new.pooling = "cls".to_owned(), differs(Property::Pooling, "mean", "cls")),
        (
            |new| new.tokenizer = "sha256:0b1c".to_owned(),
            differs(Property::Tokenizer, "sha256:70ce", "sha256:0b1c"),
        ),
    ];
    for (change, trigger) in cases {
        assert_blue_green(&from(&facts(model()), change), trigger);
    }
}

/// Records of earlier releases have none.
#[test]
fn a_pooling_that_was_not_recorded_differs_from_none() {
    let unknown = facts(ModelFacts { pooling: String::new(), ..model() });
    assert_rolling(&choose(&unknown, &facts(model()), &policy(), false));
    assert_rolling(&choose(&facts(model()), &unknown, &policy(), false));
}

#[test]
fn a_number_of_any_size_and_a_missing_architecture_are_described() {
    let described = Described {
        version: "1.0.0",
        task: "Embedding",
        architecture: "",
        layers: u64::MAX,
        hidden: 384,
        vocabulary: 1,
        output: 2,
        pooling: "mean",
        tokenizer: "sha256:70ce",
        bytes: u64::MAX,
    };
    let facts = ModelFacts::from(described);
    assert_eq!((facts.architecture, facts.layers), (None, u32::MAX));
    assert_eq!((facts.hidden, facts.bytes), (384, u64::MAX));
}

/// Guarantees: strategy-01.
#[test]
fn every_reason_is_named_not_the_first_alone() {
    let chosen = from(&facts(model()), |new| {
        new.layers = 12;
        new.bytes = 2_000;
    });
    let grown = Trigger::Grown { old: 1_000, new: 2_000 };
    let triggers = vec![differs(Property::Layers, "6", "12"), grown];
    assert_eq!(chosen, Ok((Kind::BlueGreen, triggers)));
}

/// Guarantees: strategy-01.
#[test]
fn a_model_that_comes_or_goes_asks_for_a_second_environment() {
    let one = facts(model());
    let mut two = one.clone();
    two.0.insert("ranker".to_owned(), ModelFacts { bytes: 1, ..model() });
    let name = || "ranker".to_owned();
    assert_blue_green(&choose(&one, &two, &policy(), false), Trigger::Added(name()));
    assert_blue_green(&choose(&two, &one, &policy(), false), Trigger::Removed(name()));
}

/// Guarantees: strategy-04.
#[test]
fn what_is_not_known_is_not_mixed() {
    let unknown = || Trigger::UnknownMetadata("minilm".to_owned());
    assert_blue_green(&from(&facts(model()), |new| new.architecture = None), unknown());
    assert_blue_green(&from(&changed(|old| old.architecture = None), |_| {}), unknown());
}

/// Guarantees: strategy-01, strategy-10.
#[test]
fn growth_counts_from_more_than_a_quarter() {
    let of = |bytes| from(&facts(model()), move |new| new.bytes = bytes);
    assert_rolling(&of(1_250));
    assert_blue_green(&of(1_251), Trigger::Grown { old: 1_000, new: 1_251 });
    assert_rolling(&of(1));
}

/// Guarantees: strategy-10.
#[test]
fn growth_is_counted_without_overflow() {
    let old = changed(|old| old.bytes = u64::MAX);
    assert_rolling(&from(&old, |new| new.bytes = u64::MAX));
    let nothing = changed(|old| old.bytes = 0);
    let grown = Trigger::Grown { old: 0, new: 1_000 };
    assert_blue_green(&from(&nothing, |_| {}), grown);
}

/// Guarantees: strategy-01, strategy-10.
#[test]
fn a_wish_to_return_counts_as_long_from_more_than_a_quarter_of_an_hour() {
    let bake = |bake| choose(&facts(model()), &facts(model()), &with(|p| p.bake = bake), false);
    assert_eq!(LONG_BAKE, Seconds(900));
    assert_rolling(&bake(Seconds(900)));
    assert_blue_green(&bake(Seconds(901)), Trigger::LongBake(Seconds(901)));
}

/// Guarantees: strategy-12.
#[test]
fn only_versions_that_are_both_semantic_are_compared() {
    let cases = [
        ("1.4.2", "1.5.0", None),
        ("1.4.2", "2.0.0-rc.1", Some(("1", "2"))),
        ("1.4.2+cpu", "10.0.0+cuda", Some(("1", "10"))),
        ("0.1.0", "1.0.0", Some(("0", "1"))),
        ("1.4.2", "2", None),
        ("1.4.2", "2.0", None),
        ("1.4.2", "v2.0.0", None),
        ("1.4.2", "02.0.0", None),
        ("1.4.2", "2.0.0.0", None),
        ("1.4.2", "2.x.0", None),
        ("1.4.2", "", None),
        ("main", "2.0.0", None),
    ];
    for (old, new, major) in cases {
        let chosen = from(&changed(|m| m.version = old.to_owned()), |m| m.version = new.to_owned());
        let (kind, trigger) = match major {
            Some((old, new)) => (Kind::BlueGreen, differs(Property::MajorVersion, old, new)),
            None => (Kind::Rolling, Trigger::Compatible),
        };
        assert_eq!(chosen, Ok((kind, vec![trigger])), "{old} -> {new}");
    }
}

/// Guarantees: strategy-02.
#[test]
fn the_users_strategy_wins_where_it_can() {
    let insist = |kind| with(|policy| policy.strategy = Some(kind));
    let (old, same) = (facts(model()), facts(model()));
    let blue = choose(&old, &same, &insist(Kind::BlueGreen), false);
    assert_blue_green(&blue, Trigger::Asked(Kind::BlueGreen));
    let grown = changed(|new| new.bytes = 9_000);
    let rolled = choose(&old, &grown, &insist(Kind::Rolling), false);
    assert_eq!(rolled, Ok((Kind::Rolling, vec![Trigger::Asked(Kind::Rolling)])));
}

/// Guarantees: strategy-02.
#[test]
fn rolling_what_must_not_be_mixed_is_refused_with_every_reason() {
    let insist = with(|policy| policy.strategy = Some(Kind::Rolling));
    let new = changed(|new| {
        new.layers = 12;
        new.output = 768;
    });
    let triggers =
        vec![differs(Property::Layers, "6", "12"), differs(Property::Output, "384", "768")];
    assert_eq!(choose(&facts(model()), &new, &insist, false), Err(Refused(triggers)));
}

/// Guarantees: strategy-11.
#[test]
fn the_user_may_vouch_for_two_versions_or_forbid_to_mix_them() {
    let other = changed(|new| new.architecture = Some("T5".to_owned()));
    let vouch = with(|policy| policy.compatibility = Compatibility::Interchangeable);
    assert_rolling(&choose(&facts(model()), &other, &vouch, false));
    let forbid = with(|policy| policy.compatibility = Compatibility::NoMix);
    let chosen = choose(&facts(model()), &facts(model()), &forbid, false);
    assert_blue_green(&chosen, Trigger::NoMix);
    let insist = Policy { strategy: Some(Kind::Rolling), ..forbid };
    let refused = choose(&facts(model()), &facts(model()), &insist, false);
    assert_eq!(refused, Err(Refused(vec![Trigger::NoMix])));
}

/// Guarantees: capacity-02.
#[test]
fn without_a_place_it_rolls_where_that_is_only_less_cautious() {
    let grown = changed(|new| new.bytes = 2_000);
    let chosen = choose(&facts(model()), &grown, &policy(), true);
    let triggers = vec![Trigger::Grown { old: 1_000, new: 2_000 }, Trigger::NoPlace];
    assert_eq!(chosen, Ok((Kind::Rolling, triggers)));
}

/// Guarantees: capacity-02.
#[test]
fn without_a_place_it_still_does_not_mix_what_must_not_be() {
    let other = changed(|new| new.layers = 12);
    let chosen = choose(&facts(model()), &other, &policy(), true);
    assert_blue_green(&chosen, differs(Property::Layers, "6", "12"));
}
