import { readFileSync } from 'node:fs';
import { parse } from '@babel/parser';

/** One explained mutant, or several alike: by file, function and change, as lines move. */
const LINE = /^- `([^`]+)` `([^`]+)`: `([^`]+)` → (?:`([^`]+)`|nothing)(?: \((\d+) of them\))?: \S/;
const CHANGE_CHARACTERS = 70;

/** The explained survivors of a page, with how many of each it explains. */
export function explanationsOf(path) {
  const found = new Map();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (!line.startsWith('- `')) continue;
    const match = LINE.exec(line);
    if (match === null)
      throw new Error(`${path}: expected "- \`file\` \`function\`: \`from\` → \`to\`: why", got: ${line}`);
    const [, file, name, from, to = '', count = '1'] = match;
    found.set(keyOf({ file, name, from, to }), Number(count));
  }
  return found;
}

/** What identifies a mutant across edits. */
export function keyOf({ file, name, from, to }) {
  return `- \`${file}\` \`${name}\`: \`${from}\` → ${to === '' ? 'nothing' : `\`${to}\``}`;
}

/** Gives the mutants of one source their function and their change as text. */
export function describer(source) {
  const functions = functionsOf(source);
  const starts = [0];
  for (let at = source.indexOf('\n'); at >= 0; at = source.indexOf('\n', at + 1)) starts.push(at + 1);
  // Stryker counts lines and columns from 1 in its reports.
  const offsetOf = ({ line, column }) => starts[line - 1] + column - 1;
  return ({ location, replacement }) => {
    const [start, end] = [offsetOf(location.start), offsetOf(location.end)];
    const around = functions.filter((one) => one.start <= start && end <= one.end);
    const name = around.sort((a, b) => a.end - a.start - (b.end - b.start))[0]?.name ?? 'module';
    const to = replacement === ';' ? '' : oneLine(replacement);
    return { name, from: oneLine(source.slice(start, end)), to };
  };
}

function oneLine(text) {
  const line = text.replaceAll('`', "'").replace(/\s+/g, ' ').trim();
  return line.length > CHANGE_CHARACTERS ? `${line.slice(0, CHANGE_CHARACTERS)}…` : line;
}

/** Every function with a name: its own, or that of what it is assigned to. */
function functionsOf(source) {
  const found = [];
  const visit = (node, name) => {
    if (node === null || typeof node !== 'object') return;
    if (Array.isArray(node)) {
      for (const one of node) visit(one, undefined);
      return;
    }
    if (typeof node.type !== 'string') return;
    const own = nameOf(node.id ?? node.key) ?? name;
    if (/Function|Method/.test(node.type) && own !== undefined) {
      found.push({ name: own, start: node.start, end: node.end });
    }
    const isNaming = /^(VariableDeclarator|ClassProperty|ClassPrivateProperty|ObjectProperty)$/.test(node.type);
    for (const [key, child] of Object.entries(node)) {
      if (key !== 'loc') visit(child, isNaming ? own : undefined);
    }
  };
  visit(parse(source, { sourceType: 'module', plugins: ['typescript'] }).program, undefined);
  return found;
}

function nameOf(node) {
  if (node?.type === 'PrivateName') return `#${node.id.name}`;
  return node?.type === 'Identifier' ? node.name : undefined;
}
