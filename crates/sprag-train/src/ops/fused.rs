//! How an operation with a gradient written by hand becomes part of Burn's graph on the CPU.
//!
//! Burn's macro for this (`backend_extension`) makes a trait that every backend implements. Here one function
//! does for all operations, because one backend has them: see `docs/decisions/0007-fused-operations.md`.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::{Autodiff, Flex};
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchDevice, DispatchTensor, DispatchTensorKind,
};
use burn::tensor::{DType, Int, Tensor};

use crate::kernels::Heads;
use crate::kernels::memory::Buffer;

/// The way back through one operation: what it remembers from its forward.
pub(super) trait Gradient<const N: usize>: Clone + Debug + Send + 'static {
    /// Gradients by each of the inputs that one is `wanted` of, from the one by the output.
    fn backward(self, output: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// A step of Burn's tape that calls a [`Gradient`].
#[derive(Debug)]
struct Step<G>(PhantomData<G>);

impl<G: Gradient<N>, const N: usize> Backward<Flex, N> for Step<G> {
    type State = G;

    fn backward(self, ops: Ops<G, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let inputs = ops.state.backward(output, wanted);
        for (parent, input) in ops.parents.into_iter().zip(inputs) {
            if let (Some(parent), Some(input)) = (parent, input) {
                gradients.register::<Flex>(parent.id, input);
            }
        }
    }
}

/// True where the operations of this module compute: single precision on the CPU.
pub(crate) fn is_on_cpu<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// Runs `forward`, and remembers the way back where any input is part of a graph.
pub(super) fn apply<G: Gradient<N>, const N: usize>(
    inputs: [DispatchTensor; N],
    forward: impl FnOnce([FlexTensor; N]) -> (FlexTensor, G),
) -> DispatchTensor {
    let context = inputs.iter().map(|input| input.autodiff).reduce(DispatchAutodiffContext::merge);
    let context = context.unwrap_or_default();
    if context == DispatchAutodiffContext::Disabled {
        let (output, _) = forward(inputs.map(|input| backend_tensor(input).float()));
        return DispatchTensor {
            kind: DispatchTensorKind::Flex(BackendTensor::Float(output)),
            autodiff: context,
        };
    }
    let inputs = inputs.map(in_graph);
    let nodes = inputs.each_ref().map(InGraph::node);
    let (output, gradient) = forward(inputs.map(InGraph::into_primitive));
    let prepared = Step::<G>(PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
    let output = match prepared {
        OpsKind::Tracked(step) => step.finish(gradient, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    let kind = DispatchTensorKind::Flex(BackendTensor::Autodiff(output));
    DispatchTensor { kind: DispatchTensorKind::Autodiff(Box::new(kind)), autodiff: context }
}

/// The way back through an operation with several outputs.
pub(super) trait GradientOfSeveral<const N: usize, const M: usize>:
    Clone + Debug + Send + 'static
{
    /// As [`Gradient::backward`]; `None` for outputs that nothing depends on.
    fn backward(self, outputs: [Option<FlexTensor>; M], wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// [`apply`] with several outputs.
///
/// Burn's steps have one output. So the step of the operation has a token for one, of which each output is a step:
/// going back it leaves its gradient in a slot. The step of the operation comes after all of them and finds what
/// was left. Gradients by the input meet there, in one pass, rather than as additions of Burn.
pub(super) fn apply_several<G: GradientOfSeveral<N, M>, const N: usize, const M: usize>(
    inputs: [DispatchTensor; N],
    forward: impl FnOnce([FlexTensor; N]) -> ([FlexTensor; M], G),
) -> [DispatchTensor; M] {
    let slots = Slots::<M>(Arc::new(std::array::from_fn(|_| Mutex::new(None))));
    let mut outputs = None;
    let hub = apply(inputs, |inputs| {
        let (results, gradient) = forward(inputs);
        outputs = Some(results);
        (token(), Hub { gradient, slots: slots.clone() })
    });
    let mut index = 0..M;
    outputs.expect("`apply` runs forward").map(|output| {
        let slot = Slot { slots: slots.clone(), index: index.next().expect("as many as outputs") };
        apply([hub.clone()], |_| (output, slot))
    })
}

/// Gradients by outputs, on their way to the step of the operation.
#[derive(Clone, Debug)]
struct Slots<const M: usize>(Arc<[Mutex<Option<FlexTensor>>; M]>);

impl<const M: usize> Slots<M> {
    fn lock(&self, index: usize) -> MutexGuard<'_, Option<FlexTensor>> {
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
struct Hub<G, const M: usize> {
    gradient: G,
    slots: Slots<M>,
}

impl<G: GradientOfSeveral<N, M>, const N: usize, const M: usize> Gradient<N> for Hub<G, M> {
    fn backward(self, _token: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N] {
        let outputs = std::array::from_fn(|index| self.slots.lock(index).take());
        self.gradient.backward(outputs, wanted)
    }
}

#[derive(Clone, Debug)]
struct Slot<const M: usize> {
    slots: Slots<M>,
    index: usize,
}

impl<const M: usize> Gradient<1> for Slot<M> {
    fn backward(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        *self.slots.lock(self.index) = Some(output);
        [Some(token())]
    }
}

/// One number that means nothing.
fn token() -> FlexTensor {
    tensor(Buffer::new(1), [1])
}

type InGraph = <Autodiff<Flex> as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// As a node of the graph; what is not part of one yet becomes a constant.
fn in_graph(input: DispatchTensor) -> InGraph {
    match backend_tensor(input) {
        BackendTensor::Autodiff(tensor) => tensor,
        other => InGraph::new(other.float()),
    }
}

fn backend_tensor(input: DispatchTensor) -> BackendTensor<Flex> {
    let mut kind = input.kind;
    while let DispatchTensorKind::Autodiff(inner) = kind {
        kind = *inner;
    }
    match kind {
        DispatchTensorKind::Flex(tensor) => tensor,
        _ => panic!("an operation of the CPU was given a tensor of another device"),
    }
}

/// Ids as plain numbers.
pub(super) fn ids<const D: usize>(tensor: Tensor<D, Int>) -> Vec<usize> {
    let tensor = contiguous(backend_tensor(tensor.inner().into_dispatch()).int());
    // A negative id becomes one that no table has, and is refused as such.
    if let Some(ids) = tensor.as_slice::<i32>() {
        return ids.iter().map(|id| usize::try_from(*id).unwrap_or(usize::MAX)).collect();
    }
    let ids = tensor.as_slice::<i64>().expect("ids have 32 or 64 bits");
    ids.iter().map(|id| usize::try_from(*id).unwrap_or(usize::MAX)).collect()
}

/// A plain tensor's storage, to read.
pub(crate) fn storage<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    contiguous(backend_tensor(tensor.into_dispatch()).float())
}

/// The tensor of a storage.
pub(crate) fn tensor_of<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    let kind = DispatchTensorKind::Flex(BackendTensor::Float(tensor));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
}

/// All numbers of a tensor that is its own and no view, to change. Where another handle shares them, they are
/// copied first.
pub(crate) fn numbers_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.layout().num_elements() * size_of::<f32>() == tensor.bytes().len();
    if !whole {
        *tensor = tensor.to_contiguous();
    }
    tensor.storage_mut()
}

/// The numbers of a tensor that [`contiguous`] or [`tensor`] made.
pub(crate) fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("single precision, without gaps")
}

/// In the order of its dimensions, without gaps.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// A tensor of the numbers in `buffer`.
pub(crate) fn tensor<const D: usize>(buffer: Buffer, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(buffer.into_bytes(), Layout::contiguous(shape.into()), DType::F32)
}

/// A tensor `[rows, heads, seq, dim]` of numbers that lie in memory as `[rows, seq, heads, dim]`: as
/// `split_heads` makes them and `join_heads` wants them.
pub(super) fn tensor_of_heads(buffer: Buffer, [rows, heads, seq]: [usize; 3], dim: usize) -> FlexTensor {
    tensor(buffer, [rows, seq, heads, dim]).permute(&[0, 2, 1, 3])
}

/// A tensor whose vectors lie without gaps, so that [`heads`] can look at it.
pub(super) fn with_whole_vectors(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides[3] == 1 && strides.iter().all(|stride| *stride >= 0) { tensor } else { tensor.to_contiguous() }
}

/// A tensor `[rows, heads, seq, dim]` as vectors.
pub(super) fn heads(tensor: &FlexTensor) -> Heads<'_> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let strides = [strides[0], strides[1], strides[2]].map(|stride| stride.unsigned_abs());
    let data = &tensor.storage::<f32>()[layout.start_offset()..];
    Heads::new(data, [shape[0], shape[1], shape[2]], shape[3], strides)
}

/// The sizes of a tensor's dimensions.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    std::array::from_fn(|dimension| tensor.layout().shape()[dimension])
}
