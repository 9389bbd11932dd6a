//! Independent jobs on a fixed number of workers, each with its own thread pool. Results do not
//! depend on the number of workers or threads, because no op's result does.

use super::clock::Clock;
use crate::engine::device::DeviceSpec;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Resources shared by all work of a run.
pub struct Resources<'a> {
    /// CPU threads, divided among the workers.
    pub threads: usize,
    /// The device to compute on.
    pub spec: &'a DeviceSpec,
    /// The output to the user.
    pub progress: &'a Progress,
    /// The log of time spent.
    pub clock: &'a Clock,
}

impl Resources<'_> {
    /// Workers for `jobs` jobs on models of `parameters` parameters. On a shared device jobs run
    /// one after another.
    pub fn workers(&self, jobs: usize, parameters: usize) -> Workers {
        let side_by_side = parameters <= SMALL && !self.spec.is_shared();
        let workers = if side_by_side { self.threads.min(jobs).max(1) } else { 1 };
        Workers { workers, threads_each: (self.threads / workers).max(1) }
    }
}

/// The division of a machine's threads among workers.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    /// Jobs that run at the same time.
    pub workers: usize,
    /// Threads of each worker's own pool.
    pub threads_each: usize,
}

/// Models of up to this many parameters train fastest with one model per thread. Larger ones share
/// all threads, which needs less memory.
const SMALL: usize = 4_000_000;

impl Workers {
    /// Runs all jobs and returns results in the order of the jobs. `begin` makes each worker's
    /// state once. A single worker runs the jobs in order. After an error no new job starts, and
    /// running jobs finish.
    pub fn run<J: Sync, S, R: Send>(
        self,
        jobs: &[J],
        begin: impl Fn() -> Result<S> + Sync,
        each: impl Fn(&mut S, &J) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let results: Vec<Mutex<Option<Result<R>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
        let work = || -> Result<()> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.threads_each)
                .build()
                .map_err(|e| Error::new(Kind::Io, format!("cannot start threads: {e}")))?;
            pool.install(|| {
                let mut state = begin().inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                while !failed.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(i) else { break };
                    let result = each(&mut state, job);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    *results[i].lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
                }
                Ok(())
            })
        };
        std::thread::scope(|scope| -> Result<()> {
            let handles: Vec<_> = (0..self.workers).map(|_| scope.spawn(work)).collect();
            for handle in handles {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })?;
        let results = results.into_iter().filter_map(|r| r.into_inner().unwrap_or_else(|e| e.into_inner()));
        results.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..50).collect();
        for workers in [1, 3, 8] {
            let results = Workers { workers, threads_each: 1 }.run(&jobs, || Ok(()), |(), j| Ok(j * j));
            let results = results.expect("no job fails");
            assert_eq!(results, jobs.iter().map(|j| j * j).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_stops_the_rest() {
        let jobs: Vec<u64> = (0..1000).collect();
        let begun = AtomicUsize::new(0);
        let job = |(): &mut (), &j: &u64| {
            begun.fetch_add(1, Ordering::Relaxed);
            if j == 3 { Err(Error::input("job 3")) } else { Ok(()) }
        };
        let error = Workers { workers: 2, threads_each: 1 }.run(&jobs, || Ok(()), job);
        assert_eq!(error.expect_err("job 3 fails").to_string(), "job 3");
        assert!(begun.load(Ordering::Relaxed) < 1000);
    }

    #[test]
    fn each_worker_begins_once_and_a_failed_begin_is_an_error() {
        let jobs: Vec<u64> = (0..100).collect();
        let begun = AtomicUsize::new(0);
        let begin = || Ok(begun.fetch_add(1, Ordering::Relaxed));
        let workers = Workers { workers: 3, threads_each: 1 };
        let states = workers.run(&jobs, begin, |state, _| Ok(*state)).expect("no job fails");
        assert_eq!(begun.load(Ordering::Relaxed), 3);
        assert!(states.iter().all(|&state| state < 3));
        let error = workers.run(&jobs, || Err::<(), _>(Error::input("no device")), |(), _| Ok(()));
        assert_eq!(error.expect_err("no worker begins").to_string(), "no device");
    }
}
