//! What orders work: graphs, flags that host and card both see, events that know their time.

use std::sync::Arc;

use powerinfer::backend::cuda::{Event, Stream, launch};

use crate::cuda_support::{every_order, said, with_settings};
use crate::gear::Gear;

/// `y += 2`, twice in a graph, and the graph three times.
#[test]
fn graphs_run_what_was_recorded() {
    every_order(|| {
        let gear = Gear::new();
        let y = Arc::new(gear.put(&[1.0f32; 40]));
        let twos = Arc::new(gear.put(&[2.0f32; 40]));
        // Loads the kernel.
        launch::accumulate(&gear.stream, twos.view(), y.view(), 40, 1.0).unwrap();
        let memory = [Arc::clone(&y), Arc::clone(&twos)];
        let graph = gear
            .stream
            .capture(&memory, |stream| {
                launch::accumulate(stream, twos.view(), y.view(), 40, 1.0)?;
                launch::accumulate(stream, twos.view(), y.view(), 40, 1.0)
            })
            .unwrap();
        assert_eq!(graph.n_nodes(), 2);
        assert_eq!(gear.get::<f32>(y.view(), 1), [3.0], "recording runs nothing");
        for _ in 0..3 {
            gear.stream.run(&graph).unwrap();
        }
        assert_eq!(gear.get::<f32>(y.view(), 40), [15.0; 40]);
    });
}

/// What a graph could not keep alive is refused, and the stream works afterwards.
#[test]
fn graphs_keep_what_they_use() {
    every_order(|| {
        let gear = Gear::new();
        let kept = Arc::new(gear.put(&[1.0f32; 40]));
        let other = gear.put(&[2.0f32; 40]);
        let stream = &gear.stream;
        let refused =
            |work: &dyn Fn(&Stream) -> Result<(), powerinfer::backend::cuda::CudaError>| {
                let made = stream.capture(&[Arc::clone(&kept)], |stream| work(stream));
                made.map(|_| ()).unwrap_err().to_string()
            };
        let foreign = refused(&|s| launch::accumulate(s, other.view(), kept.view(), 40, 1.0));
        assert!(foreign.contains("memory that it does not keep"), "{foreign}");
        let host = refused(&|s| s.upload(kept.view().slice(0..16), &[0; 16]));
        assert!(host.contains("memory of the host"), "{host}");
        let event = Event::new(stream.device()).unwrap();
        let forked = refused(&|s| s.record(&event));
        assert!(forked.contains("an event"), "{forked}");
        let twice = refused(&|s| s.capture(&[], |_| Ok(())).map(|_| ()));
        assert!(twice.contains("recording"), "{twice}");
        let copied = refused(&|s| s.copy(kept.view(), other.view()));
        assert!(copied.contains("memory that it does not keep"), "{copied}");

        launch::accumulate(stream, other.view(), kept.view(), 40, 1.0).unwrap();
        assert_eq!(gear.get::<f32>(kept.view(), 40), [3.0; 40]);
    });
}

/// Host and card take turns.
#[test]
fn flags_go_both_ways() {
    every_order(|| {
        let gear = Gear::new();
        let (y, ones) = (gear.put(&[0.0f32; 40]), gear.put(&[1.0f32; 40]));
        let flags = gear.stream.device().flags(2).unwrap();
        for turn in 1..=3 {
            gear.stream.wait_flag(&flags, 0, turn).unwrap();
            launch::accumulate(&gear.stream, ones.view(), y.view(), 40, 1.0).unwrap();
            gear.stream.set_flag(&flags, 1, turn).unwrap();
            assert_eq!(flags.get(1), turn - 1);
            flags.set(0, turn);
            while flags.get(1) < turn {
                gear.stream.is_done().unwrap();
            }
        }
        assert_eq!(gear.get::<f32>(y.view(), 40), [3.0; 40]);
        assert!(gear.stream.is_done().unwrap());
    });
}

/// What would hang a card ends the process of a test.
#[test]
fn a_flag_that_nobody_sets_is_seen() {
    let output = with_settings(&[], || {
        let gear = Gear::new();
        let flags = gear.stream.device().flags(1).unwrap();
        gear.stream.wait_flag(&flags, 0, 1).unwrap();
        let _ = gear.stream.synchronize();
    });
    if let Some(output) = output {
        let said = said(&output);
        assert!(!output.status.success() && said.contains("a flag that nobody sets"), "{said}");
    }
}

#[test]
fn events_know_when_they_came() {
    every_order(|| {
        let gear = Gear::new();
        let device = gear.stream.device();
        let y = gear.put(&[0.0f32; 4000]);
        let (before, after) = (Event::timed(device).unwrap(), Event::timed(device).unwrap());
        gear.stream.record(&before).unwrap();
        for _ in 0..20 {
            launch::accumulate(&gear.stream, y.view(), y.view(), 4000, 1.0).unwrap();
        }
        gear.stream.record(&after).unwrap();
        gear.stream.synchronize().unwrap();
        let ms = after.ms_since(&before).unwrap();
        assert!(ms > 0.0 && ms < 10_000.0, "{ms} ms");
        let untimed = Event::new(device).unwrap();
        gear.stream.record(&untimed).unwrap();
        gear.stream.synchronize().unwrap();
        assert!(untimed.ms_since(&before).is_err());
    });
}
