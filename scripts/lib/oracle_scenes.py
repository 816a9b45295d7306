SCENES=[]
Scene=None
