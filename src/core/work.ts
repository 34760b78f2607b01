/** Steps of work that may have to wait for somebody else's promises, which it yields; none where everything is synchronous. */
export type Work<T> = Generator<PromiseLike<unknown>, T, unknown>;

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/** The value, waited for where it has to be. */
export function* settled<T>(value: T | PromiseLike<T>): Work<T> {
  return (isThenable(value) ? yield value : value) as T;
}

/** Runs work that may wait. */
export async function runAsync<T>(work: Work<T>): Promise<T> {
  return continueAsync(work, work.next());
}

/** Runs work to its end at once where it never waits, and else goes on later. */
export function runWork<T>(work: Work<T>): T | Promise<T> {
  const step = work.next();
  return step.done === true ? step.value : continueAsync(work, step);
}

async function continueAsync<T>(work: Work<T>, first: IteratorResult<PromiseLike<unknown>, T>): Promise<T> {
  let step = first;
  while (step.done !== true) {
    let outcome: { value: unknown } | { error: unknown };
    try {
      outcome = { value: await step.value };
    } catch (error) {
      outcome = { error };
    }
    step = 'error' in outcome ? work.throw(outcome.error) : work.next(outcome.value);
  }
  return step.value;
}
