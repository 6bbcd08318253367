//! Evaluation callbacks: shows what a run computes as tensors of ggml.

use core::ffi::{c_char, c_void};
use core::ptr;

use super::ggml::buffer::{ggml_backend_buffer, ggml_backend_buffer_free};
use super::ggml::tensor::blank;
use super::types::{
    GGML_MAX_NAME, cbool, ggml_backend_buffer_t, ggml_backend_sched_eval_callback, ggml_glu_op,
    ggml_op, ggml_tensor, ggml_type, ggml_unary_op,
};
use crate::api::{Content, Node, Observer, Op, Value};
use crate::tensor::Activation;

/// Most sources of a node.
const MAX_SOURCES: usize = 3;

/// A program's callback, and the tensors that it is shown. They live as long as the context, at one
/// address; their numbers are copies, which the program may change without effect.
struct CallEval {
    callback: unsafe extern "C" fn(*mut ggml_tensor, cbool, *mut c_void) -> cbool,
    data: *mut c_void,
    /// The node, then its sources.
    tensors: Box<[ggml_tensor; 1 + MAX_SOURCES]>,
    numbers: [Vec<u32>; 1 + MAX_SOURCES],
    /// Says that the processor can read the numbers.
    buffer: ggml_backend_buffer_t,
}

// SAFETY: the program lets the callback be called from the thread that computes; the tensors are
// this structure's own.
unsafe impl Send for CallEval {}

impl Drop for CallEval {
    fn drop(&mut self) {
        // SAFETY: made in `observer`, freed once.
        unsafe { ggml_backend_buffer_free(self.buffer) };
    }
}

/// Somebody who calls the callback; `None` when there is none.
pub(super) fn observer(
    callback: ggml_backend_sched_eval_callback,
    data: *mut c_void,
) -> Option<Box<dyn Observer>> {
    let callback = callback?;
    let tensors = Box::new(core::array::from_fn(|_| blank()));
    let buffer = ggml_backend_buffer::around(ptr::null_mut(), usize::MAX);
    Some(Box::new(CallEval { callback, data, tensors, numbers: Default::default(), buffer }))
}

impl Observer for CallEval {
    fn wants(&mut self, node: &Node<'_>) -> bool {
        self.call(node, true)
    }

    fn see(&mut self, node: &Node<'_>) -> bool {
        self.call(node, false)
    }
}

impl CallEval {
    fn call(&mut self, node: &Node<'_>, ask: bool) -> bool {
        let n_sources = node.sources.len().min(MAX_SOURCES);
        let values = [&node.value].into_iter().chain(&node.sources[..n_sources]);
        for ((tensor, numbers), value) in self.tensors.iter_mut().zip(&mut self.numbers).zip(values)
        {
            fill(tensor, value, numbers, self.buffer);
        }
        let [result, sources @ ..] = &mut *self.tensors;
        (result.op, result.op_params[0]) = op_of(node.op);
        for (to, source) in result.src.iter_mut().zip(sources).take(n_sources) {
            *to = source;
        }
        // SAFETY: the program gave the function together with its data; the tensors are whole and
        // stay where they are.
        unsafe { (self.callback)(&raw mut *result, cbool::from(ask), self.data) != 0 }
    }
}

/// Describes a value, with a copy of its numbers.
fn fill(
    tensor: &mut ggml_tensor,
    value: &Value<'_>,
    numbers: &mut Vec<u32>,
    buffer: ggml_backend_buffer_t,
) {
    tensor.buffer = buffer;
    tensor.op = ggml_op::GGML_OP_NONE as i32;
    tensor.op_params = [0; 16];
    tensor.src = [ptr::null_mut(); 10];
    tensor.name = [0; GGML_MAX_NAME];
    for (to, from) in tensor.name[..GGML_MAX_NAME - 1].iter_mut().zip(value.name.bytes()) {
        *to = from as c_char;
    }
    tensor.ne = value.ne.map(|n| n as i64);
    numbers.clear();
    let (element, row) = match value.content {
        Content::F32(x) => {
            tensor.r#type = ggml_type::GGML_TYPE_F32 as i32;
            numbers.extend(x.iter().map(|x| x.to_bits()));
            (4, 4 * value.ne[0])
        }
        Content::I32(x) => {
            tensor.r#type = ggml_type::GGML_TYPE_I32 as i32;
            numbers.extend(x.iter().map(|x| x.cast_unsigned()));
            (4, 4 * value.ne[0])
        }
        Content::Weight(ty, _) => {
            tensor.r#type = ty as i32;
            (ty.info().block_bytes, ty.row_bytes(value.ne[0] as u64).unwrap_or(0) as usize)
        }
    };
    let (second, third) = (row * value.ne[1], row * value.ne[1] * value.ne[2]);
    tensor.nb = [element, row, second, third];
    tensor.data = match value.content {
        Content::Weight(_, bytes) if !bytes.is_empty() => bytes.as_ptr().cast_mut().cast(),
        _ if !numbers.is_empty() => numbers.as_mut_ptr().cast(),
        _ => ptr::null_mut(),
    };
}

/// The operation's number, and the function of gated and unary ones.
fn op_of(op: Op) -> (i32, i32) {
    let unary = |function: ggml_unary_op| (ggml_op::GGML_OP_UNARY as i32, function as i32);
    let plain = |op: ggml_op| (op as i32, 0);
    match op {
        Op::GetRows => plain(ggml_op::GGML_OP_GET_ROWS),
        Op::Norm => plain(ggml_op::GGML_OP_NORM),
        Op::RmsNorm => plain(ggml_op::GGML_OP_RMS_NORM),
        Op::Add => plain(ggml_op::GGML_OP_ADD),
        Op::Mul => plain(ggml_op::GGML_OP_MUL),
        Op::Scale => plain(ggml_op::GGML_OP_SCALE),
        Op::MulMat => plain(ggml_op::GGML_OP_MUL_MAT),
        Op::MulMatId => plain(ggml_op::GGML_OP_MUL_MAT_ID),
        Op::Rope => plain(ggml_op::GGML_OP_ROPE),
        Op::Attention => plain(ggml_op::GGML_OP_FLASH_ATTN_EXT),
        Op::TopK => plain(ggml_op::GGML_OP_TOP_K),
        Op::Tanh => unary(ggml_unary_op::GGML_UNARY_OP_TANH),
        Op::Unary(act) => unary(match act {
            Activation::Silu | Activation::SwigluOai => ggml_unary_op::GGML_UNARY_OP_SILU,
            Activation::Gelu => ggml_unary_op::GGML_UNARY_OP_GELU,
            Activation::GeluErf => ggml_unary_op::GGML_UNARY_OP_GELU_ERF,
            Activation::GeluQuick => ggml_unary_op::GGML_UNARY_OP_GELU_QUICK,
            // The square has no number of its own.
            Activation::Relu | Activation::ReluSquared | Activation::DoubleRelu => {
                ggml_unary_op::GGML_UNARY_OP_RELU
            }
        }),
        Op::Glu(act) => {
            let function = match act {
                Activation::Silu => ggml_glu_op::GGML_GLU_OP_SWIGLU,
                Activation::SwigluOai => ggml_glu_op::GGML_GLU_OP_SWIGLU_OAI,
                Activation::Gelu => ggml_glu_op::GGML_GLU_OP_GEGLU,
                Activation::GeluErf => ggml_glu_op::GGML_GLU_OP_GEGLU_ERF,
                Activation::GeluQuick => ggml_glu_op::GGML_GLU_OP_GEGLU_QUICK,
                Activation::Relu | Activation::ReluSquared | Activation::DoubleRelu => {
                    ggml_glu_op::GGML_GLU_OP_REGLU
                }
            };
            (ggml_op::GGML_OP_GLU as i32, function as i32)
        }
    }
}
