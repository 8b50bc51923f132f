// Users and rights: who asks, who there is, what each may do, and tokens.
import { useState } from "preact/hooks";
import { type Answer, encoded, matching, send } from "../api";
import { type Asked, useAsk } from "../ask";
import { Action, Badge, Copied, Field, Link, Panel, Table, TextField, useTitle } from "../ui";

const USERS = "/core/authz/users";
const CREDENTIALS = "/core/auth/credentials";
const GROUPS = "/core/authz/user-groups";
const ROLES = "/core/authz/roles";
const TOKENS = "/core/auth/tokens";

/** The groups of the four roles that are always there. */
const BUILT_IN_GROUPS = ["admins", "operators", "writers", "readers"];

const nameOf = (link: unknown) => String(link ?? "").split("/").at(-1) ?? "";

export function Access() {
  useTitle("Users and rights");
  const who = useAsk({ path: "/core/authn/whoami" });
  const body = who.answer?.body;
  return (
    <>
      <h1>Users and rights</h1>
      <Panel title="You" asked={who}>
        {body && !body.isSecurityOn && (
          <p class="quiet">
            Nobody has to log in here: whoever is on this machine may do everything. What is set
            below counts once nodes are started with <code>--auth</code>.
          </p>
        )}
        {body?.userLink && (
          <p>
            <Link to={body.userLink}>{nameOf(body.userLink)}</Link>{" "}
            {body.builtInRoles.map((role: string) => (
              <Badge tone="calm">{role}</Badge>
            ))}{" "}
            {body.roleLinks.map((link: string) => (
              <Link to={link}>{nameOf(link)}</Link>
            ))}
          </p>
        )}
      </Panel>
      <MayI />
      <Users />
      <Roles />
      <Tokens user={body?.userLink ?? null} />
    </>
  );
}

function MayI() {
  const [verb, setVerb] = useState("GET");
  const [link, setLink] = useState("/core/examples/one");
  const [user, setUser] = useState("");
  const [told, setTold] = useState<any>(null);
  const body = user === "" ? { verb, link } : { verb, link, as: user };
  return (
    <Panel title="May somebody do something?">
      <div class="row">
        <TextField label="Who (empty: you)" value={user} set={setUser} />
        <Field label="Verb">
          <select value={verb} onChange={(event) => setVerb(event.currentTarget.value)}>
            {["GET", "POST", "PUT", "PATCH", "DELETE"].map((it) => (
              <option>{it}</option>
            ))}
          </select>
        </Field>
        <TextField label="Link" value={link} set={setLink} />
      </div>
      <Action
        label="Ask"
        ask={() => ({ method: "POST", path: "/core/authz/can-i", body })}
        done={(answer) => setTold(answer.body)}
      />
      {told && (
        <p role="status">
          <Badge tone={told.isAllowed ? "good" : "bad"}>{told.isAllowed ? "YES" : "NO"}</Badge>{" "}
          {nameOf(told.as)} {told.verb} {told.link}: {told.reason}
        </p>
      )}
    </Panel>
  );
}

/** The documents of a factory, as far as one may see them. */
function useDocuments(factory: string): { asked: Asked; documents: [string, any][] } {
  const asked = useAsk({ path: `${factory}?expand` });
  const documents = Object.entries<any>(asked.answer?.body?.documents ?? {});
  return { asked, documents };
}

function Users() {
  const { asked, documents } = useDocuments(USERS);
  return (
    <Panel title="Users" asked={asked}>
      <Table head={["User", "E-mail", "Groups", "Do"]} empty="There is no user.">
        {documents.map(([link, user]) => (
          <User link={link} user={user} again={asked.again} key={link} />
        ))}
      </Table>
      <NewUser again={asked.again} />
    </Panel>
  );
}

function User({ link, user, again }: { link: string; user: any; again: () => void }) {
  const groups: string[] = user.userGroupLinks ?? [];
  const [group, setGroup] = useState("readers");
  const name = nameOf(link);
  const isIn = groups.includes(`${GROUPS}/${group}`);
  return (
    <tr>
      <th scope="row">
        <Link to={link}>{name}</Link>
      </th>
      <td>{user.email}</td>
      <td>
        {groups.map((it) => (
          <>
            <Badge tone="calm">{nameOf(it)}</Badge>{" "}
          </>
        ))}
      </td>
      <td>
        <div class="row">
          <select
            aria-label={`Group for ${name}`}
            value={group}
            onChange={(event) => setGroup(event.currentTarget.value)}
          >
            {BUILT_IN_GROUPS.map((it) => (
              <option>{it}</option>
            ))}
          </select>
          <GroupChange link={link} group={`${GROUPS}/${group}`} isIn={isIn} again={again} />
          <Action
            label="Delete"
            kind="danger"
            confirm={`${name} can never log in again.`}
            ask={() => ({ method: "DELETE", path: encoded(link) })}
            done={() => {
              // The password goes after the user; without a user it opens nothing.
              void send({ method: "DELETE", path: `${CREDENTIALS}/${encoded(name)}` }).catch(() => null);
              again();
            }}
          />
        </div>
      </td>
    </tr>
  );
}

/** Only on what was read: another change in between is not lost. */
function GroupChange(props: { link: string; group: string; isIn: boolean; again: () => void }) {
  const { link, group, isIn, again } = props;
  const read = useAsk({ path: encoded(link) });
  const now: Answer | null = read.answer;
  const groups: string[] = now?.body?.userGroupLinks ?? [];
  const others = groups.filter((it) => it !== group);
  return (
    <Action
      label={isIn ? "Take out" : "Put in"}
      disabled={!now}
      ask={() => ({
        method: "PATCH",
        path: encoded(link),
        headers: matching(now),
        body: { userGroupLinks: isIn ? others : [...others, group] },
      })}
      done={() => {
        read.again();
        again();
      }}
    />
  );
}

function NewUser({ again }: { again: () => void }) {
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [group, setGroup] = useState("readers");
  const secret = { documentSelfLink: name, userEmail: email || name, privateKey: password };
  return (
    <details>
      <summary>New user, or a new password</summary>
      <div class="row">
        <TextField label="Name" value={name} set={setName} />
        <TextField label="E-mail" value={email} set={setEmail} />
        <TextField
          label="Password"
          type="password"
          autocomplete="new-password"
          value={password}
          set={setPassword}
        />
        <Field label="Group">
          <select value={group} onChange={(event) => setGroup(event.currentTarget.value)}>
            {BUILT_IN_GROUPS.map((it) => (
              <option>{it}</option>
            ))}
          </select>
        </Field>
      </div>
      <div class="row">
        <Action
          label="1. Keep the password"
          disabled={!name || !password}
          ask={() => ({
            method: "POST",
            path: CREDENTIALS,
            body: secret,
            shown: { ...secret, privateKey: "PASSWORD" },
          })}
        />
        <Action
          label="2. Make the user"
          kind="primary"
          disabled={!name}
          ask={() => ({
            method: "POST",
            path: USERS,
            body: {
              documentSelfLink: name,
              email: email || name,
              userGroupLinks: [`${GROUPS}/${group}`],
            },
          })}
          done={again}
        />
        <Action
          label="Change the password of this user"
          disabled={!name || !password}
          ask={() => ({
            method: "PATCH",
            path: `${CREDENTIALS}/${encoded(name)}`,
            body: { privateKey: password },
            shown: { privateKey: "PASSWORD" },
          })}
        />
      </div>
    </details>
  );
}

function Roles() {
  const { asked, documents } = useDocuments(ROLES);
  return (
    <Panel title="Roles of your own" asked={asked}>
      <p class="quiet">
        Beside the four that are always there: admin, operator, writer, reader. DENY wins over every
        ALLOW.
      </p>
      <Table head={["Role", "Policy", "Users", "Verbs", "Resources"]} empty="No role of your own.">
        {documents.map(([link, role]) => (
          <tr key={link}>
            <th scope="row">
              <Link to={link}>{nameOf(link)}</Link>
            </th>
            <td>
              <Badge tone={role.policy === "DENY" ? "bad" : "good"}>{role.policy ?? "ALLOW"}</Badge>
            </td>
            <td>{nameOf(role.userGroupLink)}</td>
            <td>{(role.verbs ?? []).join(", ")}</td>
            <td>
              <Link to={role.resourceGroupLink}>{nameOf(role.resourceGroupLink)}</Link>
            </td>
          </tr>
        ))}
      </Table>
    </Panel>
  );
}

function Tokens({ user }: { user: string | null }) {
  const { asked, documents } = useDocuments(TOKENS);
  const [about, setAbout] = useState("");
  const [days, setDays] = useState("90");
  const [made, setMade] = useState("");
  return (
    <Panel title="Tokens" asked={asked}>
      <Table head={["Token", "User", "What for", "Do"]} empty="There is no token.">
        {documents.map(([link, token]) => (
          <tr key={link}>
            <th scope="row">
              <Link to={link}>{nameOf(link)}</Link>
            </th>
            <td>{nameOf(token.userLink)}</td>
            <td>{token.about}</td>
            <td>
              <Action
                label="Revoke"
                kind="danger"
                confirm="What uses it is locked out at once."
                ask={() => ({ method: "DELETE", path: encoded(link) })}
                done={asked.again}
              />
            </td>
          </tr>
        ))}
      </Table>
      {user && (
        <details>
          <summary>New token for yourself</summary>
          <div class="row">
            <TextField label="What for" value={about} set={setAbout} />
            <TextField label="Days" type="number" min={1} value={days} set={setDays} />
          </div>
          <Action
            label="Make it"
            kind="primary"
            disabled={!/^[1-9]\d*$/.test(days)}
            ask={() => ({
              method: "POST",
              path: TOKENS,
              body: { about, expirationSeconds: Number(days) * 86_400 },
            })}
            done={(answer) => {
              setMade(String(answer.body?.token ?? ""));
              asked.again();
            }}
          />
          {made && (
            <p>
              It is shown this once: <Copied text={made} />
            </p>
          )}
        </details>
      )}
    </Panel>
  );
}
