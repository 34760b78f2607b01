import { type Token, tokenize } from './tokens.ts';

/** Which folders each folder of `src` may import: the arrows of the design. */
export const ARROWS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  blockdev: ['core'],
  envelope: ['core'],
  virtio: ['core', 'blockdev'],
  faults: ['core', 'blockdev'],
  statefs: ['core', 'blockdev', 'envelope'],
  statefsd: ['core', 'envelope', 'statefs'],
  explore: ['core', 'blockdev', 'faults'],
  // Doors for clients of other processes: docs/serve.md.
  serve: ['core', 'blockdev', 'virtio', 'faults', 'explore'],
  testing: ['core', 'blockdev', 'envelope', 'virtio', 'faults', 'statefs', 'statefsd', 'explore'],
  cli: ['core', 'blockdev', 'envelope', 'virtio', 'faults', 'statefs', 'statefsd', 'explore', 'serve', 'testing'],
};

/** Hidden clocks and randomness. They come in through `Clock`, `Prng` and `Choices`. */
const HIDDEN_INPUTS: readonly (readonly string[])[] = [
  ['Math', '.', 'random'],
  ['Date', '.', 'now'],
  ['new', 'Date', '(', ')'],
  ['performance', '.', 'now'],
  ['process', '.', 'hrtime'],
  ['setTimeout'],
  ['setInterval'],
  ['setImmediate'],
  ['randomBytes'],
  ['randomUUID'],
  ['getRandomValues'],
];
/** The folders that may use them: core has the real clock, the command line talks to people. */
const MAY_USE_HIDDEN_INPUTS = ['core', 'cli'];

/** Uses that are allowed: defaults that a caller replaces where a run has to be reproducible. */
export const EXCEPTIONS: ReadonlyMap<string, string> = new Map([
  // The identity of a new store; `FormatOptions.storeId` injects it.
  ['statefs/format.ts', 'randomBytes'],
  // A device key that can be predicted is none; `KeystoredOptions.generateSeed` injects it.
  ['statefsd/keystored.ts', 'randomBytes'],
  // No two clients may have one id; `ClientOptions.clientId` injects it.
  ['statefsd/client-id.ts', 'randomBytes'],
]);

/** One `import` or `export ... from`. */
export interface Import {
  readonly specifier: string;
  readonly line: number;
  /** `import type`: gone when the program runs. */
  readonly typeOnly: boolean;
}

/** Every module that a file names, dynamically too. */
export function importsOf(tokens: readonly Token[]): Import[] {
  const found: Import[] = [];
  for (const [i, token] of tokens.entries()) {
    if (token.kind !== 'word' || tokens[i - 1]?.text === '.') continue;
    if (token.text !== 'import' && token.text !== 'export') continue;
    const specifier = specifierAfter(tokens, i);
    if (specifier === undefined) continue;
    found.push({ specifier, line: token.line, typeOnly: tokens[i + 1]?.text === 'type' });
  }
  return found;
}

function specifierAfter(tokens: readonly Token[], start: number): string | undefined {
  const next = tokens[start + 1];
  if (tokens[start]?.text === 'import') {
    if (next?.kind === 'string') return next.text;
    if (next?.text === '(') return tokens[start + 2]?.kind === 'string' ? tokens[start + 2]?.text : undefined;
  }
  // What may stand between the keyword and `from`: names, braces, commas, a star.
  for (let i = start + 1; i < tokens.length; i++) {
    const { kind, text } = tokens[i] as Token;
    if (kind === 'word' && text === 'from' && tokens[i + 1]?.kind === 'string') return tokens[i + 1]?.text;
    if (kind !== 'word' && !['{', '}', ',', '*'].includes(text)) return undefined;
  }
  return undefined;
}

/** Checks the files of `src`, by their paths in it (`core/index.ts`). @returns one line a violation */
export function violations(files: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [path, source] of files) {
    const tokens = tokenize(source);
    const imports = importsOf(tokens);
    for (const one of imports) found.push(...arrowViolations(path, one));
    found.push(...exportViolations(path, tokens), ...hiddenInputs(path, tokens));
    graph.set(
      path,
      imports
        .filter((one) => !one.typeOnly && one.specifier.startsWith('.'))
        .map((one) => resolve(path, one.specifier)),
    );
  }
  for (const cycle of cycles(graph)) found.push(`imports form a cycle: ${cycle.join(' -> ')}`);
  return found;
}

function folderOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : '';
}

function resolve(from: string, specifier: string): string {
  const url = new URL(specifier, `file:///${from}`);
  return url.pathname.slice(1);
}

function arrowViolations(path: string, { specifier, line }: Import): string[] {
  if (!specifier.startsWith('.')) return [];
  const place = `${path}:${line}`;
  const target = resolve(path, specifier);
  const [from, to] = [folderOf(path), folderOf(target)];
  if (!specifier.endsWith('.ts')) return [`${place}: "${specifier}" has no .ts at its end`];
  if (from === to || from === '') return [];
  if (!(ARROWS[from] ?? []).includes(to)) return [`${place}: ${from} may not import ${to}`];
  return target === `${to}/index.ts` ? [] : [`${place}: "${specifier}" goes past ${to}/index.ts`];
}

function exportViolations(path: string, tokens: readonly Token[]): string[] {
  const found: string[] = [];
  for (const [i, { kind, text, line }] of tokens.entries()) {
    if (kind !== 'word' || text !== 'export' || tokens[i - 1]?.text === '.') continue;
    const next = tokens[i + 1]?.text;
    if (next === '*' || (next === 'type' && tokens[i + 2]?.text === '*')) found.push(`${path}:${line}: export *`);
    if (next === 'default') found.push(`${path}:${line}: default export`);
  }
  return found;
}

function hiddenInputs(path: string, tokens: readonly Token[]): string[] {
  if (MAY_USE_HIDDEN_INPUTS.includes(folderOf(path))) return [];
  const found: string[] = [];
  for (const [i, { kind, line }] of tokens.entries()) {
    if (kind !== 'word') continue;
    const hit = HIDDEN_INPUTS.find((words) => words.every((word, j) => tokens[i + j]?.text === word));
    if (hit !== undefined && EXCEPTIONS.get(path) !== hit.join(''))
      found.push(`${path}:${line}: ${hit.join('')}: take a Clock, a Prng or Choices instead`);
  }
  return found;
}

/** One cycle for each edge that closes one in a depth-first walk. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (node: string) => {
    if (trail.includes(node)) {
      found.push([...trail.slice(trail.indexOf(node)), node]);
      return;
    }
    if (done.has(node)) return;
    trail.push(node);
    for (const next of graph.get(node) ?? []) visit(next);
    trail.pop();
    done.add(node);
  };
  for (const node of graph.keys()) visit(node);
  return found;
}
