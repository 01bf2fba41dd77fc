//! Two matrices with a squared ReLU between them (So et al., <https://arxiv.org/abs/2109.08668>), and their gradients.

#[cfg(target_arch = "x86_64")]
use super::MatrixMut;
use super::activation::{Activation, activate, activate_gradient};
#[cfg(target_arch = "x86_64")]
use super::avx512::{self, Packed, Then};
use super::memory::Buffer;
use super::{Matrix, Precision, product};

/// The weights.
#[derive(Clone, Copy, Debug)]
pub struct Mlp<'a> {
    /// `[width, hidden]`.
    pub up: Matrix<'a>,
    /// `[hidden, outputs]`.
    pub down: Matrix<'a>,
    /// Of the products.
    pub precision: Precision,
}

/// What going back needs of the hidden layer, `[tokens, hidden]`.
#[derive(Debug)]
pub enum Hidden {
    /// Its numbers before the activation.
    Numbers(Buffer),
    /// The activation as products read it, from which its slope is told.
    #[cfg(target_arch = "x86_64")]
    Packed(Packed),
}

impl Mlp<'_> {
    /// `[tokens, outputs]` for `x[tokens, width]`, on all threads.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn forward(&self, x: Matrix<'_>) -> (Buffer, Hidden) {
        assert!(
            x.cols() == self.up.rows() && self.up.cols() == self.down.rows(),
            "{} x {} does not go through {} x {} and {} x {}",
            x.rows(),
            x.cols(),
            self.up.rows(),
            self.up.cols(),
            self.down.rows(),
            self.down.cols()
        );
        #[cfg(target_arch = "x86_64")]
        if self.goes_between_products(x) {
            return self.forward_between_products(x);
        }
        self.forward_by_numbers(x)
    }

    /// Gradients by `x`, `up` and `down`, where they are wanted, from the `gradient` by the output and what
    /// [`forward`](Mlp::forward) left.
    ///
    /// # Panics
    /// Shapes do not fit together, or numbers of a row of `gradient` do not lie side by side.
    pub fn backward(
        &self,
        x: Matrix<'_>,
        hidden: &Hidden,
        gradient: Matrix<'_>,
        wanted: [bool; 3],
    ) -> [Option<Buffer>; 3] {
        match hidden {
            Hidden::Numbers(hidden) => self.backward_by_numbers(x, hidden, gradient, wanted),
            #[cfg(target_arch = "x86_64")]
            Hidden::Packed(activated) => self.backward_between_products(x, activated, gradient, wanted),
        }
    }

    fn forward_by_numbers(&self, x: Matrix<'_>) -> (Buffer, Hidden) {
        let hidden = product(x, self.up, self.precision);
        let activated = self.activated(&hidden);
        let out = product(self.hidden_matrix(&activated, x.rows()), self.down, self.precision);
        (out, Hidden::Numbers(hidden))
    }

    fn backward_by_numbers(
        &self,
        x: Matrix<'_>,
        hidden: &[f32],
        gradient: Matrix<'_>,
        [by_x, by_up, by_down]: [bool; 3],
    ) -> [Option<Buffer>; 3] {
        let precision = self.precision;
        let by_down = by_down.then(|| {
            let activated = self.activated(hidden);
            product(self.hidden_matrix(&activated, x.rows()).transposed(), gradient, precision)
        });
        let mut by_hidden = product(gradient, self.down.transposed(), precision);
        activate_gradient(&mut by_hidden, hidden, Activation::SquaredRelu);
        let by_hidden = self.hidden_matrix(&by_hidden, x.rows());
        let by_up = by_up.then(|| product(x.transposed(), by_hidden, precision));
        let by_x = by_x.then(|| product(by_hidden, self.up.transposed(), precision));
        [by_x, by_up, by_down]
    }

    fn hidden_matrix<'a>(&self, numbers: &'a [f32], tokens: usize) -> Matrix<'a> {
        Matrix::new(numbers, tokens, self.up.cols())
    }

    fn activated(&self, hidden: &[f32]) -> Buffer {
        let mut activated = Buffer::new(hidden.len());
        activate(&mut activated, hidden, Activation::SquaredRelu);
        activated
    }
}

#[cfg(target_arch = "x86_64")]
impl Mlp<'_> {
    /// True where the hidden layer is made and read by the same kernel, without being numbers in memory.
    fn goes_between_products(&self, x: Matrix<'_>) -> bool {
        let empty = [x.rows(), x.cols(), self.up.cols(), self.down.cols()].contains(&0);
        !empty && x.col_stride() == 1 && avx512::chosen()
    }

    fn forward_between_products(&self, x: Matrix<'_>) -> (Buffer, Hidden) {
        let [up, down] = [self.up, self.down].map(|weight| Packed::new(weight, self.precision, true));
        let mut out = Buffer::new(x.rows() * self.down.cols());
        let to = MatrixMut::new(&mut out, x.rows(), self.down.cols());
        let activated = up.multiply_through(to, x, Then::SquaredRelu, &down);
        (out, Hidden::Packed(activated))
    }

    fn backward_between_products(
        &self,
        x: Matrix<'_>,
        activated: &Packed,
        gradient: Matrix<'_>,
        [wanted_by_x, by_up, by_down]: [bool; 3],
    ) -> [Option<Buffer>; 3] {
        let by_down = by_down.then(|| {
            let mut by_down = Buffer::new(self.down.rows() * self.down.cols());
            let to = MatrixMut::new(&mut by_down, self.down.rows(), self.down.cols());
            activated.multiply_transposed(to, gradient.transposed());
            by_down
        });
        if !wanted_by_x && !by_up {
            return [None, None, by_down];
        }
        let [down, up] =
            [self.down, self.up].map(|weight| Packed::new(weight.transposed(), self.precision, true));
        let mut by_x = Buffer::new(x.rows() * x.cols());
        let to = MatrixMut::new(&mut by_x, x.rows(), x.cols());
        let by_hidden = down.multiply_through(to, gradient, Then::TimesSlopeAt(activated), &up);
        let by_up = by_up.then(|| {
            let mut by_up = Buffer::new(x.cols() * self.up.cols());
            let to = MatrixMut::new(&mut by_up, x.cols(), self.up.cols());
            by_hidden.multiply(to, x.transposed(), 0, false, true);
            by_up
        });
        [wanted_by_x.then_some(by_x), by_up, by_down]
    }
}

#[cfg(test)]
mod tests;
