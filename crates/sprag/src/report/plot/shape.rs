//! One shape for each way a trial can end, told apart without colour.

use super::super::model::Mark;

/// The shape around a point, as SVG elements of that mark's class.
pub fn shape(mark: Mark, x: f64, y: f64, size: f64) -> String {
    let class = mark.class();
    let body = match mark {
        Mark::Baseline => square(x, y, size * 0.9),
        Mark::Win => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\"/>"),
        Mark::Loss => polygon(&[(x - size, y - size * 0.8), (x + size, y - size * 0.8), (x, y + size)]),
        Mark::Inconclusive => {
            polygon(&[(x, y - size * 1.15), (x + size * 1.15, y), (x, y + size * 1.15), (x - size * 1.15, y)])
        }
        Mark::Outrun => polygon(&[
            (x - size * 0.8, y - size),
            (x + size, y),
            (x - size * 0.8, y + size),
            (x - size * 0.2, y),
        ]),
        Mark::Stopped => octagon(x, y, size),
        Mark::Invalid => cross(x, y, size * 0.85),
        Mark::Undone => format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\"/><path d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            x - size * 1.3,
            y + size * 1.3,
            x + size * 1.3,
            y - size * 1.3
        ),
        Mark::Open => {
            format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size:.1}\" stroke-dasharray=\"2 2\"/>")
        }
    };
    format!("<g class=\"mark {class}\">{body}</g>")
}

/// The shape alone, for legends and tables.
pub fn icon(mark: Mark) -> String {
    let shape = shape(mark, 8.0, 8.0, 4.6);
    format!("<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{shape}</svg>")
}

fn square(x: f64, y: f64, half: f64) -> String {
    let (left, top, side) = (x - half, y - half, 2.0 * half);
    format!("<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\"/>")
}

fn cross(x: f64, y: f64, arm: f64) -> String {
    let (left, right, top, bottom) = (x - arm, x + arm, y - arm, y + arm);
    format!(
        "<path d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{right:.1} {top:.1}L{left:.1} {bottom:.1}\"/>"
    )
}

fn octagon(x: f64, y: f64, radius: f64) -> String {
    let (long, short) = (radius * 0.95, radius * 0.4);
    let corners = [(short, long), (long, short), (long, -short), (short, -long)];
    let left = corners.map(|(right, down)| (-right, -down));
    let corners: Vec<(f64, f64)> =
        corners.into_iter().chain(left).map(|(right, down)| (x + right, y + down)).collect();
    polygon(&corners)
}

fn polygon(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!("<polygon points=\"{}\"/>", points.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_a_shape_of_its_own() {
        let mut bodies: Vec<String> =
            Mark::ALL.iter().map(|mark| shape(*mark, 0.0, 0.0, 5.0).replace(mark.class(), "")).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), Mark::ALL.len());
    }
}
