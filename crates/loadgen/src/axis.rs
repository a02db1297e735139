//! Axes of plots: positions and round ticks.

/// Range of values of an axis, linear or logarithmic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// Returns a linear axis.
    pub fn linear(from: f64, to: f64) -> Self {
        Self { from, to, logarithmic: false }
    }

    /// Returns a logarithmic axis; both ends must be positive.
    pub fn logarithmic(from: f64, to: f64) -> Self {
        Self { from, to, logarithmic: true }
    }

    /// Returns whether the axis is logarithmic.
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// Returns the position of a value from 0 to 1.
    pub fn position(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.from).ln() - self.from.ln()) / (self.to.ln() - self.from.ln())
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }

    /// Returns round numbers on the axis: 1, 2 or 5 times a power of ten.
    ///
    /// A linear axis has about `count` of them, at equal distances. A logarithmic axis has as many per decade as fit
    /// into twice `count`: three, one, or one in several decades; if it is short, it has linear ones.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let inside = |tick: &f64| (self.from..=self.to).contains(tick);
        if self.logarithmic {
            let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
            let all = |digits: &[f64]| -> Vec<f64> {
                let ticks =
                    decades.clone().flat_map(|decade| digits.iter().map(move |it| rounded(*it, decade)));
                ticks.filter(inside).collect()
            };
            let (fine, coarse) = (all(&[1.0, 2.0, 5.0]), all(&[1.0]));
            if fine.len() >= 3 || coarse.len() >= 2 {
                let step = coarse.len().div_ceil(2 * count.max(1));
                let coarse = || coarse.into_iter().step_by(step).collect();
                return if fine.len() <= 2 * count { fine } else { coarse() };
            }
        }
        let rough = (self.to - self.from) / count.max(1) as f64;
        let decade = rough.log10().floor() as i32;
        let digit =
            [1.0, 2.0, 5.0].into_iter().find(|&digit| rounded(digit, decade) >= rough).unwrap_or(10.0);
        let first = (self.from / rounded(digit, decade)).ceil() as i64;
        let ticks = (first..=first + count as i64).map(|tick| rounded(tick as f64 * digit, decade));
        ticks.filter(inside).collect()
    }
}

/// Returns `digits` times a power of ten, without the rounding error of negative powers.
fn rounded(digits: f64, decade: i32) -> f64 {
    if decade < 0 { digits / 10_f64.powi(-decade) } else { digits * 10_f64.powi(decade) }
}

/// Escapes text for HTML and SVG, also inside quoted attributes.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_steps() {
        for (from, to, count, expected) in [
            (0.0, 10.0, 4, &[0.0, 5.0, 10.0][..]),
            (0.0, 1337.0, 4, &[0.0, 500.0, 1000.0]),
            (0.0, 0.037, 4, &[0.0, 0.01, 0.02, 0.03]),
            (0.93, 1.57, 6, &[1.0, 1.2, 1.4]),
            (0.0, 7.0, 4, &[0.0, 2.0, 4.0, 6.0]),
        ] {
            assert_eq!(Axis::linear(from, to).ticks(count), expected, "{from} to {to}");
        }
        for (from, to, count, expected) in [
            (0.8, 87.5, 6, &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0][..]),
            (1.0, 1e5, 4, &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5]),
            (1.0, 1e9, 2, &[1.0, 1e3, 1e6, 1e9]),
            // Linear, since there are only two round numbers in between.
            (11.0, 60.0, 4, &[20.0, 40.0, 60.0]),
        ] {
            assert_eq!(Axis::logarithmic(from, to).ticks(count), expected, "{from} to {to}");
        }
    }

    #[test]
    fn positions_follow_scale() {
        let linear = Axis::linear(10.0, 20.0);
        assert_eq!([10.0, 15.0, 20.0, 0.0, 99.0].map(|it| linear.position(it)), [0.0, 0.5, 1.0, 0.0, 1.0]);
        let logarithmic = Axis::logarithmic(1.0, 100.0);
        assert_eq!([1.0, 10.0, 100.0, 0.0].map(|it| logarithmic.position(it)), [0.0, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn escapes_markup() {
        assert_eq!(escaped(r#"<a href="x">&"#), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
