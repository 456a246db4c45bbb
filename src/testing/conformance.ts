/**
 * A conformance kit for the way in which TLS streams end.
 *
 * Theory of operation. Each check puts the stream under test (the subject) at one end of a channel
 * and a reference stream at the other, has them say a few things, and then does to the line what the
 * check is about. The reference closes exactly when it is told, so the check decides what crosses the
 * wire; and where a check cuts, it cuts at a byte that it has looked up in the held records, so its
 * outcome hangs on no race.
 *
 * A check passes, or throws a `ConformanceError` that says which rule, what was expected and what was
 * seen. A subject that settles nothing within `limit` fails too: a stream that hangs has not said
 * that it ended, and that is what most checks ask for. Where the wait itself is the rule (deadlines),
 * the limit is what tells a stream that gives up from one that does not.
 *
 * The kit needs no test runner: `run` resolves or rejects.
 */
import { CLOSURE_CHECKS } from './checks-closure.ts';
import { HOSTILE_CHECKS } from './checks-hostile.ts';
import { TRUNCATION_CHECKS } from './checks-truncation.ts';
import { type Credentials, selfSigned } from './credentials.ts';
import {
  type Adapter,
  closeNotifyAdapter,
  ROLES,
  type Role,
  VERSIONS,
  type Version,
} from './party.ts';
import { type Requirement, RULES } from './rules.ts';
import { type Found, Mismatch, Scene, say } from './scene.ts';

export type { Requirement } from './rules.ts';
export type { Found } from './scene.ts';

/** One check of one subject, in one role and version. */
export interface Check {
  /** Stable, such as `truncation/record-boundary/client/TLSv1.3`. */
  readonly id: string;
  /** What is checked, without role and version. */
  readonly name: string;
  readonly role: Role;
  readonly version: Version;
  readonly requirement: Requirement;
  /** Resolves when the subject conforms. @throws {ConformanceError} */
  run(): Promise<void>;
}

/** Options of `conformance`. */
export interface ConformanceOptions {
  /** Certificates; made at once, and self-signed, by default. */
  readonly credentials?: Credentials | undefined;
  /** The other party. It must pass the checks itself, and answer close_notify only when told. */
  readonly reference?: Adapter | undefined;
  /** Milliseconds until a wait counts as hanging; 5,000 by default. */
  readonly limit?: number | undefined;
  /** Milliseconds that subjects get as their deadline for a silent peer; 200 by default. */
  readonly deadline?: number | undefined;
}

/** A check that failed. */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError';
  /** The id of the check. */
  readonly check: string;
  readonly requirement: Requirement;
  readonly expected: string;
  readonly actual: string;

  constructor(check: Pick<Check, 'id' | 'requirement'>, found: Found) {
    const { text, source } = check.requirement;
    super(
      `${check.id}: expected ${found.expected}, but ${found.actual}\n  "${text}"${source === null ? '' : ` (${source})`}`,
      found.cause === undefined ? undefined : { cause: found.cause },
    );
    this.check = check.id;
    this.requirement = check.requirement;
    this.expected = found.expected;
    this.actual = found.actual;
  }
}

const DEFINITIONS = [...CLOSURE_CHECKS, ...TRUNCATION_CHECKS, ...HOSTILE_CHECKS];

/** The names of all checks, in their order, without roles and versions. */
export const CHECKS: readonly string[] = DEFINITIONS.map(({ name }) => name);

/**
 * The checks for a kind of TLS stream, in each of its roles and versions. They can run in any order,
 * and side by side.
 *
 * @example
 * for (const check of conformance(myAdapter)) test(check.id, () => check.run());
 */
export function conformance(subject: Adapter, options: ConformanceOptions = {}): Check[] {
  const { limit = 5_000, deadline = 200 } = options;
  const reference = options.reference ?? closeNotifyAdapter({ answer: 'when-told' });
  let { credentials } = options;
  const checks: Check[] = [];
  for (const { name, requirement, only, body } of DEFINITIONS) {
    for (const role of subject.roles ?? ROLES) {
      for (const version of subject.versions ?? VERSIONS) {
        if (only !== undefined && only !== version) continue;
        const rule =
          requirement === RULES.needNotWait && version === 'TLSv1.2'
            ? RULES.needNotWait12
            : requirement;
        const check = { id: `${name}/${role}/${version}`, name, role, version, requirement: rule };
        const run = async () => {
          credentials ??= selfSigned();
          const scene = new Scene(check, subject, reference, credentials, limit, deadline);
          try {
            await body(scene);
          } catch (error) {
            const found =
              error instanceof Mismatch
                ? error.found
                : { expected: 'no error', actual: `there was one: ${say(error)}`, cause: error };
            throw new ConformanceError(check, found);
          } finally {
            scene.end();
          }
        };
        checks.push({ ...check, run });
      }
    }
  }
  return checks;
}
