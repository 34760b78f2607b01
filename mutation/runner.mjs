// Stryker's test runner for these tests: all of them in one process, loaded once, run again for each mutant. Stryker's own
// for vitest loads everything anew for each: a second, where most mutants are killed within some milliseconds.
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import { commonTokens, declareFactoryPlugin, PluginKind } from '@stryker-mutator/api/plugin';
import { DryRunStatus, MutantRunStatus, TestStatus } from '@stryker-mutator/api/test-runner';
import { rolldown } from 'rolldown';
import { FOLDERS, SLOW_TESTS } from './tests.mjs';
import { takeTests } from './vitest-in-process.mjs';

const VITEST = new URL('./vitest-in-process.mjs', import.meta.url).href;
/** In the sandbox. */
const TIMES = 'mutation-times.json';
const ENTRY = '\0tests';
/** A test that takes this many times as long as without a mutant, and so many milliseconds more, hangs. */
const HANG_FACTOR = 5;
const HANG_MS = 2000;

const NONE = '';

/** The same text, in the one copy that literals of scripts share: comparing it to them is comparing addresses. */
function internalized(text) {
  return Object.keys({ [text]: 0 })[0];
}

class TestFailure extends Error {}
class TestHang extends Error {}

/** The tests and sources of the sandbox as one script. `isCounting`: it notes which test reaches which mutant. */
async function bundle(root, files, isCounting) {
  const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const entry = [
    `import fc from 'fast-check';`,
    // The same verdict each time; and to know that a property fails is enough, nobody reads the smallest case.
    `fc.configureGlobal({ seed: 1, endOnFailure: true });`,
    ...files.flatMap((file) => [`import '\0file:${file}';`, `import ${JSON.stringify(join(root, file))};`]),
  ].join('\n');
  const powercut = {
    name: 'powercut',
    resolveId(source) {
      if (source.startsWith('\0')) return source;
      if (source === 'vitest') return { id: VITEST, external: true };
      const target = exports[source.replace(/^powercut/, '.')];
      if (source.startsWith('powercut/') && target !== undefined) {
        return join(root, target.default.replace('./dist/', 'src/').replace(/\.js$/, '.ts'));
      }
      return undefined;
    },
    load(id) {
      if (id === ENTRY) return entry;
      if (id.startsWith('\0file:')) {
        return `import { beginFile } from 'vitest'; beginFile(${JSON.stringify(id.slice('\0file:'.length))});`;
      }
      return undefined;
    },
    transform(code, id) {
      if (!id.endsWith('.ts') || id.includes('node_modules')) return undefined;
      const placed = code.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(id).href));
      // Counting is most of the time of an instrumented program.
      return isCounting ? placed : placed.replace(/function stryCov_9fa48\(\) \{/, '$& return;');
    },
  };
  const build = await rolldown({
    input: ENTRY,
    cwd: root,
    platform: 'node',
    external: (id) => /^[a-z@]/.test(id) && !id.startsWith('powercut/') && id !== 'vitest',
    plugins: [powercut],
    treeshake: false,
    logLevel: 'silent',
  });
  const { output } = await build.generate({ format: 'esm' });
  const path = join(root, `mutation-tests-${process.pid}-${isCounting ? 'counting' : 'plain'}.mjs`);
  writeFileSync(path, output[0].code);
  return pathToFileURL(path).href;
}

class InProcessRunner {
  static inject = [commonTokens.options, 'globalNamespace'];
  #space;
  #bundles = { counting: '', plain: '' };
  #loads = 0;
  /** Undefined where what is loaded was loaded with a mutant, or may have been left in a state by one. */
  #tests = undefined;
  /** By test. Of the process that ran them without a mutant: its file tells those that come after it. */
  #timesMs = undefined;

  constructor(_options, namespace) {
    globalThis[namespace] ??= {};
    this.#space = globalThis[namespace];
  }

  capabilities() {
    return { reloadEnvironment: true };
  }

  async init() {
    const folder = FOLDERS[process.env.MUTATION_FOLDER];
    if (folder === undefined) throw new Error('mutation: expected a folder of sources, see npm run mutants');
    const isQuick = process.env.MUTATION_QUICK === '1';
    const files = isQuick ? folder.quick : [...folder.quick, ...folder.slow];
    const root = process.cwd();
    this.#bundles = { counting: await bundle(root, files, true), plain: await bundle(root, files, false) };
    // A promise that a mutant leaves behind fails no other mutant's test.
    process.on('unhandledRejection', () => {});
  }

  async #load(kind) {
    takeTests();
    await import(`${this.#bundles[kind]}?${++this.#loads}`);
    const isQuick = process.env.MUTATION_QUICK === '1';
    return takeTests().filter((one) => !one.isSkipped && !(isQuick && SLOW_TESTS.has(one.shortName)));
  }

  async dryRun() {
    this.#space.activeMutant = NONE;
    this.#space.mutantCoverage = { static: {}, perTest: {} };
    this.#space.currentTestId = undefined;
    const results = [];
    for (const one of await this.#load('counting')) {
      this.#space.currentTestId = one.id;
      const begun = performance.now();
      const failure = await one.run().then(
        () => undefined,
        (error) => String(error?.stack ?? error),
      );
      const timeSpentMs = performance.now() - begun;
      const { id, name, fileName } = one;
      const status = failure === undefined ? TestStatus.Success : TestStatus.Failed;
      results.push({ id, name, fileName, timeSpentMs, status, failureMessage: failure });
    }
    this.#space.currentTestId = undefined;
    writeFileSync(TIMES, JSON.stringify(Object.fromEntries(results.map(({ id, timeSpentMs }) => [id, timeSpentMs]))));
    const coverage = this.#space.mutantCoverage;
    // What tests reach, and their files as well while they load, is judged by the tests: all of them for each would take hours.
    for (const reached of Object.values(coverage.perTest)) {
      for (const id of Object.keys(reached)) delete coverage.static[id];
    }
    return { status: DryRunStatus.Complete, tests: results, mutantCoverage: coverage };
  }

  #timeMsOf({ id }) {
    this.#timesMs ??= JSON.parse(readFileSync(TIMES, 'utf8'));
    return this.#timesMs[id] ?? 0;
  }

  async #run(one) {
    const allowedMs = this.#timeMsOf(one) * HANG_FACTOR + HANG_MS;
    let timer;
    const hang = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new TestHang(one.id)), allowedMs);
    });
    try {
      await Promise.race([one.run(), hang]);
      return undefined;
    } catch (error) {
      return error ?? new TestFailure('thrown: nothing');
    } finally {
      clearTimeout(timer);
    }
  }

  async mutantRun({ activeMutant, testFilter, hitLimit, mutantActivation, reloadEnvironment }) {
    if (reloadEnvironment) this.#tests = undefined;
    const activate = (isActive) => {
      this.#space.activeMutant = isActive ? internalized(activeMutant.id) : NONE;
      this.#space.hitCount = isActive && hitLimit !== undefined ? 0 : undefined;
      this.#space.hitLimit = hitLimit;
    };
    const isFresh = this.#tests === undefined;
    const isStatic = mutantActivation === 'static';
    try {
      activate(isStatic);
      this.#tests ??= await this.#load('plain');
    } catch (error) {
      this.#tests = undefined;
      // Not the mutant's doing: nothing may count as killed by it.
      if (!isStatic) throw error;
      return { status: MutantRunStatus.Killed, killedBy: ['loading'], failureMessage: String(error), nrOfTests: 0 };
    }
    const chosen = testFilter === undefined ? this.#tests : this.#tests.filter(({ id }) => testFilter.includes(id));
    chosen.sort((a, b) => this.#timeMsOf(a) - this.#timeMsOf(b));
    let nrOfTests = 0;
    for (const one of chosen) {
      activate(true);
      if (isStatic) this.#space.hitCount = undefined;
      const failure = await this.#run(one);
      activate(false);
      nrOfTests++;
      if (failure === undefined) continue;
      if (failure instanceof TestHang) {
        this.#tests = undefined;
        return { status: MutantRunStatus.Timeout, reason: `hangs: ${one.id}` };
      }
      if (isStatic) {
        this.#tests = undefined;
      } else if ((await this.#run(one)) !== undefined) {
        // It fails without the mutant as well: what is loaded was left in a state by a mutant. If it was this one, it counts.
        this.#tests = undefined;
        if (!isFresh)
          return this.mutantRun({ activeMutant, testFilter, hitLimit, mutantActivation, reloadEnvironment });
      }
      const failureMessage = String(failure?.message ?? failure);
      return { status: MutantRunStatus.Killed, killedBy: [one.id], failureMessage, nrOfTests };
    }
    if (isStatic) this.#tests = undefined;
    return { status: MutantRunStatus.Survived, nrOfTests };
  }
}

function inProcessRunner(injector) {
  return injector.provideValue('globalNamespace', '__stryker__').injectClass(InProcessRunner);
}
inProcessRunner.inject = [commonTokens.injector];

export const strykerPlugins = [declareFactoryPlugin(PluginKind.TestRunner, 'in-process', inProcessRunner)];
