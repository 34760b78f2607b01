import type { Reporter, TestModule, Vitest } from 'vitest/node';

/** A skipped test has its reason in brackets at the end of its name: `every address is its own (the device is ...)`. */
const REASON = /\(([^()]+)\)$/;

/** Tells at the end of a run why tests were skipped: a count alone says nothing. */
export class SkipReasons implements Reporter {
  #isFiltered = false;

  onInit(vitest: Vitest): void {
    // With `-t` all that was not asked for counts as skipped.
    this.#isFiltered = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    if (this.#isFiltered) return;
    const counts = new Map<string, number>();
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const reason = REASON.exec(test.name)?.[1] ?? `no reason given: ${test.fullName}`;
        counts.set(reason, (counts.get(reason) ?? 0) + 1);
      }
    }
    for (const [reason, count] of counts) process.stdout.write(` Skipped ${count}: ${reason}\n`);
  }
}
