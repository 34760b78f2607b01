import { fileURLToPath } from 'node:url';
import { addCallRemoval } from './call-removal.mjs';
import { workFiles } from './tests.mjs';

addCallRemoval();

const files = workFiles(process.env.MUTATION_FOLDER);

export default {
  testRunner: 'in-process',
  plugins: [fileURLToPath(new URL('./runner.mjs', import.meta.url))],
  coverageAnalysis: 'perTest',
  concurrency: 1,
  // Helper threads of the collector take more of the processors than they save.
  testRunnerNodeArgs: ['--single-threaded-gc'],
  // Texts are for people: what a message says is held where it matters. Codes and labels are held by the compiler.
  mutator: { excludedMutations: ['StringLiteral'] },
  disableTypeChecks: false,
  // There is none by this name: Stryker would rewrite paths in it with an API that TypeScript 7 does not have.
  tsconfigFile: 'none',
  ignorePatterns: ['dist', 'bench', 'mutation/node_modules'],
  tempDirName: files.sandbox,
  incremental: true,
  incrementalFile: files.incremental,
  reporters: ['json', 'progress-append-only'],
  jsonReporter: { fileName: files.report },
  // On a busy machine counting takes its time.
  dryRunTimeoutMinutes: 30,
  timeoutMS: 5000,
  timeoutFactor: 2,
  allowConsoleColors: false,
};
