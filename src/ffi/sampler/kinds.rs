//! The function tables of our samplers: one static table per kind, whose address is its identity.

use core::ffi::c_char;
use core::ptr;

use super::candidates;
use super::chain::CChain;
use crate::ffi::guard;
use crate::ffi::types::{llama_sampler, llama_sampler_i, llama_token, llama_token_data_array};
use crate::sampler::{
    AdaptiveP, Dist, Dry, Grammar, Greedy, Infill, LogitBias, MinP, Mirostat, MirostatV2,
    Penalties, Sampler, Temp, TempExt, TopK, TopNSigma, TopP, Typical, Xtc,
};
use crate::vocab::Vocab;

/// Infill over a vocabulary that the caller keeps alive, as `llama.h` demands.
type CInfill = Infill<&'static Vocab>;
/// The same for grammars.
type CGrammar = Grammar<&'static Vocab>;

/// A sampler that C can hold.
pub(super) trait Kind: Sampler + Clone + 'static {
    /// The table of this kind.
    fn table() -> &'static llama_sampler_i;

    /// False for a copy that misses something; it is thrown away.
    fn is_whole(&self) -> bool {
        true
    }

    /// Takes over the state of a sampler with the same arguments.
    fn copy_state(&mut self, from: &Self) {
        self.clone_from(from);
    }
}

/// Gives each type its table, and finds the type by the table.
macro_rules! kinds {
    ($($kind:ident),+ $(,)?) => {
        $(impl Kind for $kind {
            fn table() -> &'static llama_sampler_i {
                static TABLE: llama_sampler_i = table::<$kind>();
                &TABLE
            }
        })+

        /// The sampler in a handle, when it is one of ours other than a chain.
        ///
        /// # Safety
        /// `smpl` is NULL or a valid sampler, which nothing changes during `'a`.
        unsafe fn builtin_single<'a>(smpl: *const llama_sampler) -> Option<&'a dyn Sampler> {
            // SAFETY: by the contract of this function.
            $(if let Some(sampler) = unsafe { get::<$kind>(smpl) } {
                return Some(sampler);
            })+
            None
        }
    };
}

kinds! {
    AdaptiveP,
    Dist,
    Dry,
    CGrammar,
    Greedy,
    CInfill,
    LogitBias,
    MinP,
    Mirostat,
    MirostatV2,
    Penalties,
    Temp,
    TempExt,
    TopK,
    TopNSigma,
    TopP,
    Typical,
    Xtc,
}

/// The sampler in a handle, when it is one of ours.
///
/// # Safety
/// `smpl` is NULL or a valid sampler, which nothing changes during `'a`.
pub(super) unsafe fn builtin<'a>(smpl: *const llama_sampler) -> Option<&'a dyn Sampler> {
    // SAFETY: by the contract of this function.
    match unsafe { get::<CChain>(smpl) } {
        Some(chain) => Some(chain),
        // SAFETY: as above.
        None => unsafe { builtin_single(smpl) },
    }
}

/// Whether a sampler takes a token: those of ours that draw or pick one, and all users' samplers.
///
/// # Safety
/// `smpl` is NULL or a valid sampler, which nothing changes during the call.
pub(super) unsafe fn chooses(smpl: *const llama_sampler) -> bool {
    // SAFETY: by the contract of this function.
    unsafe {
        builtin(smpl).is_none()
            || get::<AdaptiveP>(smpl).is_some()
            || get::<Dist>(smpl).is_some()
            || get::<Greedy>(smpl).is_some()
            || get::<Mirostat>(smpl).is_some()
            || get::<MirostatV2>(smpl).is_some()
    }
}

/// Puts a sampler on the heap, for C to own.
pub(super) fn into_handle<K: Kind>(sampler: K) -> *mut llama_sampler {
    let ctx = Box::into_raw(Box::new(sampler)).cast();
    Box::into_raw(Box::new(llama_sampler { iface: ptr::from_ref(K::table()).cast_mut(), ctx }))
}

/// The sampler in a handle, if it is of kind `K`.
///
/// # Safety
/// `smpl` is NULL or a valid sampler, which nothing changes during `'a`.
pub(super) unsafe fn get<'a, K: Kind>(smpl: *const llama_sampler) -> Option<&'a K> {
    // SAFETY: NULL or valid; with K's table the data is a K, by into_handle.
    unsafe {
        let smpl = smpl.as_ref().filter(|s| ptr::eq(s.iface, K::table()))?;
        smpl.ctx.cast::<K>().as_ref()
    }
}

/// The sampler in a handle, to change, if it is of kind `K`.
///
/// # Safety
/// `smpl` is NULL or a valid sampler, which nothing else uses during `'a`.
pub(super) unsafe fn get_mut<'a, K: Kind>(smpl: *mut llama_sampler) -> Option<&'a mut K> {
    // SAFETY: NULL or valid; with K's table the data is a K, by into_handle.
    unsafe {
        let smpl = smpl.as_ref().filter(|s| ptr::eq(s.iface, K::table()))?;
        smpl.ctx.cast::<K>().as_mut()
    }
}

/// The table of a kind. All functions are set, so a program that calls them past
/// `llama_sampler_*` finds what it needs.
pub(super) const fn table<K: Kind>() -> llama_sampler_i {
    llama_sampler_i {
        name: Some(name::<K>),
        accept: Some(accept::<K>),
        apply: Some(apply::<K>),
        reset: Some(reset::<K>),
        clone: Some(clone::<K>),
        free: Some(free::<K>),
        backend_init: None,
        backend_accept: None,
        backend_apply: None,
        backend_set_input: None,
        backend_reset: None,
        copy_state: Some(copy_state::<K>),
    }
}

unsafe extern "C" fn name<K: Kind>(smpl: *const llama_sampler) -> *const c_char {
    guard::call(super::NO_NAME.as_ptr(), "sampler name", || {
        // SAFETY: smpl is a valid sampler.
        unsafe { get::<K>(smpl) }.map_or(super::NO_NAME, |s| s.name()).as_ptr()
    })
}

unsafe extern "C" fn accept<K: Kind>(smpl: *mut llama_sampler, token: llama_token) {
    guard::call((), "sampler accept", || {
        // SAFETY: smpl is a valid sampler, used by this call alone.
        if let Some(sampler) = unsafe { get_mut::<K>(smpl) } {
            sampler.accept(token);
        }
    });
}

unsafe extern "C" fn apply<K: Kind>(smpl: *mut llama_sampler, cur_p: *mut llama_token_data_array) {
    guard::call((), "sampler apply", || {
        // SAFETY: smpl is a valid sampler and cur_p a valid array, used by this call alone.
        unsafe {
            if let Some(sampler) = get_mut::<K>(smpl) {
                candidates::edit(cur_p, |candidates| sampler.apply(candidates));
            }
        }
    });
}

unsafe extern "C" fn reset<K: Kind>(smpl: *mut llama_sampler) {
    guard::call((), "sampler reset", || {
        // SAFETY: smpl is a valid sampler, used by this call alone.
        if let Some(sampler) = unsafe { get_mut::<K>(smpl) } {
            sampler.reset();
        }
    });
}

unsafe extern "C" fn clone<K: Kind>(smpl: *const llama_sampler) -> *mut llama_sampler {
    guard::call(ptr::null_mut(), "sampler clone", || {
        // SAFETY: smpl is a valid sampler.
        let copy = unsafe { get::<K>(smpl) }.cloned();
        copy.filter(K::is_whole).map_or(ptr::null_mut(), into_handle)
    })
}

unsafe extern "C" fn free<K: Kind>(smpl: *mut llama_sampler) {
    guard::call((), "sampler free", || {
        // SAFETY: smpl is a valid sampler that is not used after this; its data is a K in a box.
        unsafe {
            if let Some(sampler) = get_mut::<K>(smpl) {
                (*smpl).ctx = ptr::null_mut();
                drop(Box::from_raw(ptr::from_mut(sampler)));
            }
        }
    });
}

unsafe extern "C" fn copy_state<K: Kind>(src: *const llama_sampler, dst: *mut llama_sampler) {
    guard::call((), "sampler copy", || {
        // SAFETY: src and dst are valid and distinct.
        if let (Some(src), Some(dst)) = unsafe { (get::<K>(src), get_mut::<K>(dst)) } {
            dst.copy_state(src);
        }
    });
}
