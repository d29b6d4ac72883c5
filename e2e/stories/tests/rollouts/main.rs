//! Rollouts on a real cluster, under load: no request may be lost by routing.

mod bad;
mod healthy;
mod mind;
mod operator;
mod surroundings;
