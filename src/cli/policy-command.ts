import { Command, Option } from 'commander';
import { CodedError, describeValue } from '../core/index.ts';
import { Authority, loadPolicy, OPERATION_NAMES, type OperationName, type Policy } from '../statefsd/index.ts';
import type { CommandContext } from './command.ts';
import { EXIT_CLEAN, EXIT_VIOLATION } from './exit-codes.ts';
import { formatTable, type Output } from './output.ts';
import { misuse } from './scenarios.ts';

/** The options of `powercut policy`, as parsed. */
interface PolicyFlags {
  readonly filter?: string;
  readonly ask?: readonly string[];
  readonly json?: boolean;
}

const HELP = `
Checks the file as statefsd would when it starts or gets SIGHUP, and says what it comes to. docs/security/policy.md has the
fields.

Exit codes: 0 it is valid, and what --ask asks is allowed; 1 what --ask asks is denied; 2 it is no policy, or misuse.

Examples:
  powercut policy policy.toml
  powercut policy policy.toml --filter app.calc > app.calc.filter.json
  powercut policy policy.toml --ask app.calc get /state/keystore/device.key
`;

/** `powercut policy`. */
export function policyCommand({ output, exit }: CommandContext): Command {
  return new Command('policy')
    .description('check a policy file of statefsd, ask it, and derive ABI filters from it')
    .argument('<file>', 'TOML')
    .addOption(
      new Option('--filter <subject>', 'print the ABI filter of a subject, one line').conflicts(['ask', 'json']),
    )
    .option('--ask <words...>', 'subject, operation and path: what would be decided, and by which rule')
    .option('--json', 'one object on standard output')
    .addHelpText('after', HELP)
    .action((file: string, flags: PolicyFlags) => exit(runPolicy(file, flags, output)));
}

function runPolicy(file: string, flags: PolicyFlags, output: Output): number {
  const authority = authorityOf(file);
  if (flags.filter !== undefined) {
    checkSubject(authority.policy, flags.filter);
    output.out(`${authority.filterFor(flags.filter).serialize()}\n`);
    return EXIT_CLEAN;
  }
  if (flags.ask !== undefined) return ask(authority, flags.ask, flags, output);
  describe(authority, file, flags, output);
  return EXIT_CLEAN;
}

/** A policy that is over a cap is misuse of the command as well as one that is malformed. */
function authorityOf(file: string): Authority {
  try {
    return new Authority(loadPolicy(file));
  } catch (error) {
    throw error instanceof CodedError ? misuse(error.message, error) : error;
  }
}

function ask(authority: Authority, words: readonly string[], flags: PolicyFlags, output: Output): number {
  const [subject = '', operation = '', path = '', ...rest] = words;
  checkSubject(authority.policy, subject);
  if (!isOperation(operation) || rest.length > 0) {
    throw misuse(
      `--ask: expected subject, operation and path, with one of ${OPERATION_NAMES.join(', ')}, got ${words.join(' ')}`,
    );
  }
  const { allowed, rule } = authority.decide(subject, operation, path);
  if (flags.json) output.out(`${JSON.stringify({ subject, operation, path, allowed, rule })}\n`);
  else output.out(`${allowed ? 'allowed' : 'denied'}: ${rule}\n`);
  return allowed ? EXIT_CLEAN : EXIT_VIOLATION;
}

function describe(authority: Authority, file: string, flags: PolicyFlags, output: Output): void {
  const { subjects, rules, budgets } = authority.policy;
  const rows = subjects.map((subject) => ({ subject, filterRules: authority.filterFor(subject).ruleCount }));
  if (flags.json) {
    output.out(`${JSON.stringify({ file, rules: rules.length, budgets: budgets.length, subjects: rows })}\n`);
    return;
  }
  output.out(`${file}: ${subjects.length} subjects, ${rules.length} rules, ${budgets.length} budgets\n\n`);
  const table = formatTable(
    ['subject', 'rules that decide'],
    rows.map(({ subject, filterRules }) => [subject, filterRules]),
  );
  output.out(`${table.join('\n')}\n`);
}

function checkSubject({ subjects }: Policy, subject: string): void {
  if (subjects.includes(subject)) return;
  throw misuse(`subject: expected one of the policy's, ${subjects.join(', ')}, got ${describeValue(subject)}`);
}

function isOperation(name: string): name is OperationName {
  return (OPERATION_NAMES as readonly string[]).includes(name);
}
