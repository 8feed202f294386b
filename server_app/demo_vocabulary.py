"""Words of the synthetic notes: what decides the outcome, and much that does not."""

RISK = (
    "lactate rising",
    "vasopressor started",
    "confused",
    "oliguric",
    "tachypneic",
    "hypotensive",
    "mottled skin",
    "desaturating",
    "rigors",
    "lethargic",
)
"""Findings that speak for deterioration."""

PROTECTIVE = (
    "ambulating",
    "afebrile",
    "tolerating diet",
    "alert",
    "comfortable",
    "weaning oxygen",
    "normotensive",
    "voiding freely",
    "cheerful",
    "sleeping well",
)
"""Findings that speak for recovery."""

FINDING_PHRASES = (
    "{} overnight",
    "now {}",
    "{} since {time}",
    "remains {}",
    "{} on review",
    "{} this morning",
    "noted {}",
    "{} at {time}",
    "{} per nursing",
    "again {}",
)

COMPLAINTS = (
    "abdominal pain",
    "a productive cough",
    "a swollen left leg",
    "dizziness on standing",
    "a fall at home",
    "chest tightness",
    "nausea after meals",
    "a painful hip",
    "palpitations",
    "a chronic wound",
    "back pain",
    "a urinary infection",
    "shortness of breath",
    "fever of unknown origin",
    "a planned operation",
    "weight loss",
)

HISTORIES = (
    "hypertension",
    "type 2 diabetes",
    "asthma",
    "atrial fibrillation",
    "gout",
    "osteoarthritis",
    "hypothyroidism",
    "chronic kidney disease",
    "depression",
    "migraine",
    "coronary disease",
    "COPD",
    "psoriasis",
    "glaucoma",
    "no known illness",
)

DRUGS = (
    "amlodipine",
    "metformin",
    "ramipril",
    "pantoprazole",
    "paracetamol",
    "heparin",
    "ceftriaxone",
    "furosemide",
    "bisoprolol",
    "insulin",
    "salbutamol",
    "atorvastatin",
    "ondansetron",
    "levothyroxine",
)

MEASUREMENTS = (
    ("sodium", 128, 148),
    ("potassium", 3, 6),
    ("haemoglobin", 80, 160),
    ("white cells", 4, 19),
    ("platelets", 90, 420),
    ("creatinine", 50, 210),
    ("glucose", 4, 15),
    ("albumin", 24, 45),
    ("weight", 48, 118),
    ("pain score", 0, 8),
)

PLANS = (
    "bloods tomorrow",
    "continue present treatment",
    "physiotherapy referral",
    "chest film ordered",
    "dietitian to see",
    "review by {ward} team",
    "fluids as charted",
    "family informed at {time}",
    "wound check in {days} days",
    "discuss on ward round",
    "social work involved",
    "culture results awaited",
    "repeat ECG in {days} hours",
    "ultrasound booked",
)

WARDS = ("medical", "surgical", "cardiology", "geriatric", "respiratory")

SCANNER_TAG = "portable film by the mobile unit"
"""Written in a note when the mobile X-ray unit was used; says something about the outcome at one hospital only."""

ABBREVIATIONS = (
    ("year old ", "yo "),
    (" woman", " F"),
    (" man", " M"),
    ("history of", "hx"),
    ("admitted with", "adm w/"),
    ("shortness of breath", "sob"),
    ("hypertension", "htn"),
    ("type 2 diabetes", "t2dm"),
    ("atrial fibrillation", "af"),
    ("morning", "am"),
    ("overnight", "o/n"),
    ("treatment", "tx"),
)
"""How the second hospital shortens; none of them touches a deciding word."""
