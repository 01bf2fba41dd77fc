//! What tokens cost: energy, and money where prices are known.

/// Prices; in any one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// Of a kilowatt-hour.
    pub kilowatt_hour: Option<f64>,
    /// Of the machine for an hour.
    pub hour: Option<f64>,
}

/// For a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Hours.
    pub hours: f64,
    /// Kilowatt-hours, where the power is known.
    pub kilowatt_hours: Option<f64>,
    /// Money, where a price is known for what is used.
    pub money: Option<f64>,
}

/// Of a million tokens at a rate in tokens a second, under a power in watts.
///
/// ```
/// use sprag_measure::plan::{Prices, cost};
/// let million = cost(100.0, Some(360.0), Prices { kilowatt_hour: Some(0.3), hour: None });
/// // 10,000 s at 360 W are 1 kWh.
/// assert!((million.kilowatt_hours.unwrap() - 1.0).abs() < 1e-12);
/// assert!((million.money.unwrap() - 0.3).abs() < 1e-12);
/// ```
pub fn cost(tokens_per_second: f64, watts: Option<f64>, prices: Prices) -> Cost {
    let hours = 1e6 / tokens_per_second / 3600.0;
    let kilowatt_hours = watts.map(|watts| watts * hours / 1000.0);
    let energy = kilowatt_hours.zip(prices.kilowatt_hour).map(|(amount, price)| amount * price);
    let machine = prices.hour.map(|price| price * hours);
    let money = match (energy, machine) {
        (None, None) => None,
        (energy, machine) => Some(energy.unwrap_or(0.0) + machine.unwrap_or(0.0)),
    };
    Cost { hours, kilowatt_hours, money }
}
